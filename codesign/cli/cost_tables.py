"""Tables of `codesign simulate` and `codesign explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from codesign.cli.units import bytes_of, percent, seconds, si
from codesign.cost import CostReport, LayerCost, Lever, scalesim
from codesign.workload import Phase

_WIDE = 160  # columns of a table that goes to a file or a pipe


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=_WIDE, highlight=False)


def _title(report: CostReport) -> str:
    return (
        f"{report.network.name}, batch {report.network.batch}, on {report.accelerator.name} "
        f"({report.accelerator.description}): one training step with {report.optimizer}, {report.mode} mode"
    )


def print_report(report: CostReport, *, detail: bool) -> None:
    console = _console()
    console.print(_title(report), soft_wrap=True)
    console.print(_detail_table(report) if detail else _owner_table(report))
    console.print(_phase_table(report))
    _print_totals(console, report)


def _owner_table(report: CostReport) -> Table:
    """A line per weight layer with all that belongs to it."""
    table = Table(
        "layer", title="norms, activations, pools and updates with the layer before them", title_justify="left"
    )
    for name in ("latency", "share", *(phase.value for phase in Phase), "util", "traffic", "energy"):
        table.add_column(name, justify="right")
    table.add_column("bound")
    phases: dict[str, dict[Phase, float]] = {}
    for row in report.rows:
        mine = phases.setdefault(row.owner, dict.fromkeys(Phase, 0.0))
        mine[row.phase] += row.cost.latency_s
    for name, cost in report.by_owner().items():
        table.add_row(
            name,
            seconds(cost.latency_s),
            percent(cost.latency_s / report.latency_s),
            *(seconds(phases[name][phase]) for phase in Phase),
            percent(cost.utilisation),
            bytes_of(cost.traffic_bits),
            si(cost.energy_j, "J"),
            cost.bound,
        )
    return table


def _detail_table(report: CostReport) -> Table:
    table = Table("layer", "phase")
    for name in ("latency", "arrays", "vector", "DRAM", "util", "MACs", "traffic", "energy"):
        table.add_column(name, justify="right")
    table.add_column("bound")
    table.add_column("mapping")
    for row in report.rows:
        cost = row.cost
        table.add_row(
            row.layer, row.phase, seconds(cost.latency_s), seconds(cost.compute_s), seconds(cost.vector_s),
            seconds(cost.memory_s), percent(cost.utilisation) if cost.macs else "", si(cost.macs, "") if cost.macs else "",
            bytes_of(cost.traffic_bits), si(cost.energy_j, "J"), cost.bound, " + ".join(row.mappings),
        )  # fmt: skip
    return table


def _phase_table(report: CostReport) -> Table:
    table = Table("phase")
    for name in ("latency", "share", "arrays", "vector", "DRAM", "util", "traffic", "energy"):
        table.add_column(name, justify="right")
    table.add_column("bound")
    lines = {phase.value: cost for phase, cost in report.by_phase().items()} | {"total": report.total}
    for name, cost in lines.items():
        if name == "total":
            table.add_section()
        table.add_row(
            name, seconds(cost.latency_s), percent(cost.latency_s / report.latency_s), seconds(cost.compute_s),
            seconds(cost.vector_s), seconds(cost.memory_s), percent(cost.utilisation), bytes_of(cost.traffic_bits),
            si(cost.energy_j, "J"), cost.bound,
        )  # fmt: skip
    return table


def _print_totals(console: Console, report: CostReport) -> None:
    total, memory = report.total, report.memory
    rate = report.network.batch / report.latency_s
    lines = [
        f"{seconds(report.latency_s)} a step, {rate:,.0f} examples a second; {si(report.energy_j, 'J')} a step "
        f"(arithmetic {percent(total.mac_j / report.energy_j)}, on-chip memory {percent(total.sram_j / report.energy_j)}, "
        f"DRAM {percent(total.dram_j / report.energy_j)}); area of arrays and on-chip memory "
        f"{report.area_um2 / 1e6:,.2f} mm2",
        f"DRAM: {bytes_of(8 * memory.peak_bytes)} of {bytes_of(8 * memory.capacity_bytes)}: "
        f"weights {bytes_of(8 * memory.weights_bytes)}, optimizer {bytes_of(8 * memory.optimizer_bytes)}, "
        f"gradients {bytes_of(8 * memory.gradients_bytes)}, stashed activations {bytes_of(8 * memory.stash_bytes)}, "
        f"workspace {bytes_of(8 * memory.workspace_bytes)}",
    ]
    if not memory.fits:
        over = memory.peak_bytes - memory.capacity_bytes
        lines.append(
            f"DOES NOT FIT: {bytes_of(8 * over)} too much; use a smaller batch, narrower formats or fewer channels"
        )
    for line in lines:
        console.print(line, soft_wrap=True)


def print_scalesim(workload: str, accelerator: str, rows: Sequence[scalesim.ScaleSimProduct]) -> None:
    """A line per matrix product."""
    table = Table("layer", "phase", title=f"{workload} on {accelerator}, scalesim mode: matrix products only")
    names = ("repeats", "m", "n", "k", "compute_cycles", "mapping_efficiency", "dram_ifmap_reads", "dram_filter_reads")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        gemm, counts = row.gemm, row.counts
        table.add_row(
            row.layer, row.phase.value, f"{row.repeats:,}", f"{gemm.m:,}", f"{gemm.n:,}", f"{gemm.k:,}",
            f"{counts.compute_cycles:,}", f"{counts.mapping_efficiency_pct / 100:,.4g}", f"{counts.dram_ifmap_reads:,}",
            f"{counts.dram_filter_reads:,}",
        )  # fmt: skip
    console = _console()
    console.print(table)
    console.print(f"total compute cycles: {sum(row.counts.compute_cycles * row.repeats for row in rows):,}")


def print_explanation(
    report: CostReport,
    found: Sequence[Lever],
    rows: Sequence[LayerCost],
    best: Mapping[tuple[str, Phase], tuple[str, float]],
) -> None:
    """Where the time goes, what each lever gives, and the lever that helps each of `rows` most."""
    console = _console()
    console.print(_title(report), soft_wrap=True)
    console.print(_bound_table(report))
    table = Table("lever, alone", title="each lever pulled, the step simulated again", title_justify="left")
    for name in ("step", "saves", "speed-up"):
        table.add_column(name, justify="right")
    for lever in found:
        saved = report.latency_s - lever.latency_s
        table.add_row(
            lever.name, seconds(lever.latency_s), percent(saved / report.latency_s), f"{report.latency_s / lever.latency_s:.2f}x"
        )  # fmt: skip
    console.print(table)
    table = Table("layer", "phase", title=f"the {len(rows)} longest of {len(report.rows)} layers and phases", title_justify="left")  # fmt: skip
    for name in ("latency", "share", "util"):
        table.add_column(name, justify="right")
    for name in ("bound", "best lever for it"):
        table.add_column(name)
    table.add_column("saves", justify="right")
    for row in rows:
        name, saved = best[row.layer, row.phase]
        cost = row.cost
        table.add_row(
            row.layer, row.phase, seconds(cost.latency_s), percent(cost.latency_s / report.latency_s),
            percent(cost.utilisation) if cost.macs else "", cost.bound, name, percent(saved / cost.latency_s),
        )  # fmt: skip
    console.print(table)
    console.print(
        "`elementwise work fused` leaves those rows out, the other levers are simulated; none says what it does to accuracy",
        soft_wrap=True,
    )


def _bound_table(report: CostReport) -> Table:
    """Where the time goes, by bound."""
    table = Table("bound by", title="where the time goes", title_justify="left")
    for name in ("latency", "share", "layers and phases"):
        table.add_column(name, justify="right")
    for bound in dict.fromkeys(row.cost.bound for row in sorted(report.rows, key=lambda row: row.cost.bound)):
        mine = [row.cost.latency_s for row in report.rows if row.cost.bound is bound]
        table.add_row(bound, seconds(sum(mine)), percent(sum(mine) / report.latency_s), str(len(mine)))
    return table
