"""The pruning experiments on a few digits: every method at the size it claims, resumable, and honest about chance."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codesign.cli import main
from codesign.errors import RunDirectoryError
from codesign.reproduce import retraining, staged
from codesign.reproduce.ledger import Ledger, TrainedNetwork, read_rows
from codesign.reproduce.pages import retraining_claims, staged_claims
from codesign.reproduce.settings import digest, load_retraining, load_staged, shipped
from codesign.reproduce.summary import Difference, of, spread

SUBJECT = """
structure = { alpha = 0.9, floor = 2 }
images = 200

[subject]
accelerator = "edge"
seeds = 2
data = { name = "digits", train_images = 200, test_images = 60 }
network = { name = "vgg:8 M 16 M" }
training = { batch = 50, learning_rate = 0.05 }
"""
RETRAINING = 'title = "few"\ndense_epochs = 2\nshort_epochs = 1\nlong_epochs = 2\n' + SUBJECT
STAGED = 'title = "few"\nfirst_epochs = 1\nrest_epochs = 1\nalphas = [0.95, 0.8]\nnoise_images = 200\n' + SUBJECT


def write(folder: Path, text: str) -> Path:
    path = folder / "few.toml"
    path.write_text(text)
    return path


def test_retraining_compares_networks_of_the_sizes_it_says(tmp_path, capsys):
    config = write(tmp_path, RETRAINING)
    assert main(["reproduce", "retraining", str(config), "--out", str(tmp_path), "--json"]) == 0
    rows = [TrainedNetwork(**row) for row in json.loads(capsys.readouterr().out)["rows"]]
    assert rows == read_rows(tmp_path / "retraining.csv", TrainedNetwork)
    assert len(rows) == retraining.trainings(load_retraining(config)) == 22
    for seed in (0, 1):
        own = {row.method: row for row in rows if row.seed == seed}
        m1, dense = own[retraining.M1_SHORT], own[retraining.DENSE]
        assert m1.parameters < dense.parameters == dense.dense_parameters
        for method in (retraining.M1_LONG, retraining.RANDOM_SHORT, retraining.SCRATCH):
            assert (own[method].parameters, own[method].macs) == (m1.parameters, m1.macs)
        assert own[retraining.CONVENTIONAL_LONG].parameters == pytest.approx(m1.parameters, rel=0.15)
        assert own[retraining.SAME_MACS_SHORT].macs == pytest.approx(m1.macs, rel=0.15)
        assert own[retraining.DENSE_SHORT].cut_top1 == dense.top1  # it goes on from the same network
        assert own[retraining.M1_SHORT].cut_top1 == own[retraining.M1_LONG].cut_top1
        assert m1.simulated_s < own[retraining.M1_LONG].simulated_s
    page = (tmp_path / "retraining.md").read_text()
    assert all(f"| {method} |" in page for method in retraining.METHODS)
    assert (tmp_path / "retraining.svg").stat().st_size > 0


def test_an_interrupted_experiment_goes_on_with_the_same_results(tmp_path):
    config, table = write(tmp_path, RETRAINING), tmp_path / "retraining.csv"
    settings = load_retraining(config)
    retraining.run(settings, Ledger(table, TrainedNetwork), lambda _: None)
    whole = read_rows(table, TrainedNetwork)
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:14]) + lines[14][:20])  # killed in the middle of a line
    retraining.run(settings, Ledger(table, TrainedNetwork), lambda _: None)

    def results(rows: list[TrainedNetwork]) -> list[TrainedNetwork]:
        return [replace(row, search_cpu_s=0.0, cpu_s=0.0, wall_s=0.0) for row in rows]

    assert results(read_rows(table, TrainedNetwork)) == results(whole)
    again: list[TrainedNetwork] = []
    before = table.read_bytes()
    retraining.run(settings, Ledger(table, TrainedNetwork), again.append)
    assert len(again) == len(whole)
    assert table.read_bytes() == before


def test_every_rival_of_m2_is_as_large_as_m2(tmp_path, capsys):
    config = write(tmp_path, STAGED)
    assert main(["reproduce", "staged", str(config), "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    rows = read_rows(tmp_path / "staged.csv", TrainedNetwork)
    assert len(rows) == staged.trainings(load_staged(config)) == 2 * (1 + 2 * 9)
    for seed in (0, 1):
        sizes = []
        for level in (0, 1):
            own = {row.method: row for row in rows if (row.seed, row.level) == (seed, level)}
            m2 = own[staged.M2]
            assert {own[method].parameters for method in staged.MASKED} == {m2.parameters}
            assert (own[staged.SCRATCH].parameters, own[staged.SCRATCH].macs) == (m2.parameters, m2.macs)
            assert own[staged.SAME_PARAMETERS].parameters == pytest.approx(m2.parameters, rel=0.2)
            assert own[staged.SAME_MACS].macs == pytest.approx(m2.macs, rel=0.2)
            # masks shrink nothing: the machine's time is that of the dense network
            assert own["SNIP"].simulated_s > own[staged.SCRATCH].simulated_s
            sizes.append(m2.parameters)
        assert sizes[0] > sizes[1]
    assert (tmp_path / "staged.svg").stat().st_size > 0
    page = (tmp_path / "staged.md").read_text()
    assert all(f"| {method} |" in page for method in staged.METHODS)


ROW = TrainedNetwork(
    config="c", data="d", seed=0, method="", level=0, top1=0.9, top5=1.0, cut_top1=0.5, parameters=50,
    dense_parameters=100, macs=50, dense_macs=100, epochs=1.0, search_cpu_s=0.0, cpu_s=1.0, wall_s=1.0, simulated_s=1.0,
)  # fmt: skip


def seeds(method: str, *top1: float, level: int = 0, cpu_s: float = 1.0) -> list[TrainedNetwork]:
    return [replace(ROW, method=method, seed=n, top1=value, level=level, cpu_s=cpu_s) for n, value in enumerate(top1)]


def test_a_difference_is_taken_seed_by_seed():
    # 1, 2 and 3 points: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.3027
    got = Difference.between(seeds("a", 0.51, 0.62, 0.73), seeds("b", 0.50, 0.60, 0.70))
    assert got.mean == pytest.approx(2)
    assert got.low == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-4)
    assert got.high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4)
    assert got.verdict(-1) == "reproduced"
    assert got.verdict(1) == "partly reproduced"
    assert got.verdict(3) == "not reproduced (but within the noise)"
    assert got.verdict(5) == "not reproduced"
    assert spread(seeds("a", 0.5, 0.5), lambda row: row.top1) == "0.50"
    assert spread(seeds("a", 0.4, 0.6), lambda row: row.top1) == "0.50 ± 0.14"


def test_claims_about_m1_follow_the_rows():
    rows = [row for method in retraining.METHODS for row in seeds(method, 0.80, 0.81, 0.80)]
    rows = [row for row in rows if row.method not in (retraining.M1_SHORT, retraining.CONVENTIONAL_LONG)]
    rows += seeds(retraining.M1_SHORT, 0.90, 0.91, 0.90) + seeds(
        retraining.CONVENTIONAL_LONG, 0.90, 0.91, 0.90, cpu_s=6
    )
    reaches, above, shorter, _ = retraining_claims(rows)
    assert "**Reproduced**: +0.00 points" in reaches
    assert "**Reproduced**: +10.00 points" in above
    assert "**Reached on average**: 6.0 times" in shorter


def test_short_retraining_at_lower_accuracy_does_not_reach_the_goal():
    rows = [row for method in retraining.METHODS for row in seeds(method, 0.80, 0.81, 0.80)]
    rows = [row for row in rows if row.method != retraining.CONVENTIONAL_LONG]
    rows += seeds(retraining.CONVENTIONAL_LONG, 0.90, 0.91, 0.90, cpu_s=6)
    reaches, _, shorter, _ = retraining_claims(rows)
    assert "**Not reproduced**: -10.00 points" in reaches
    assert "**Missed**: 6.0 times" in shorter


def test_claims_about_m2_are_made_against_the_best_of_the_five():
    rows = []
    for level, left in ((0, 60), (1, 10)):
        for method in staged.METHODS:
            rows += [replace(row, parameters=left) for row in seeds(method, 0.80, 0.81, 0.82, level=level)]
    rows = [row for row in rows if row.method != "SynFlow"]
    rows += [replace(row, parameters=60) for row in seeds("SynFlow", 0.70, 0.71, 0.72, level=0)]
    rows += [replace(row, parameters=10) for row in seeds("SynFlow", 0.90, 0.91, 0.92, level=1)]
    low, high, _ = staged_claims(rows, 2)
    assert "**Reproduced** at -40.0 %" in low
    assert "**Not reproduced** at -90.0 %, where SynFlow is best: -10.00 points" in high


def test_results_of_another_version_are_not_mixed_in(tmp_path):
    (tmp_path / "retraining.csv").write_text("config,top1\nx,0.5\n")
    with pytest.raises(RunDirectoryError, match="has other columns"):
        Ledger(tmp_path / "retraining.csv", TrainedNetwork)


@pytest.mark.parametrize(
    "name", ["retraining_fashion", "retraining_digits", "retraining_cifar10", "retraining_cifar100"]
)
def test_shipped_configurations_of_retraining_can_be_read(name):
    settings = load_retraining(shipped(name))
    assert settings.long_epochs == pytest.approx(10 * settings.short_epochs)


@pytest.mark.parametrize("name", ["staged_fashion", "staged_digits", "staged_cifar10", "staged_cifar100"])
def test_shipped_configurations_of_staged_can_be_read(name):
    settings = load_staged(shipped(name))
    assert settings.rest_epochs / settings.first_epochs == pytest.approx(170 / 30)


def test_more_seeds_are_the_same_experiment_and_another_structure_is_not():
    settings = load_staged(shipped("staged_digits"))
    assert digest(settings) == digest(replace(settings, subject=replace(settings.subject, seeds=9)))
    assert digest(settings) != digest(replace(settings, images=settings.images + 1))


def test_of_sorts_by_seed():
    rows = seeds("a", 0.1, 0.2, 0.3)
    assert [row.seed for row in of(rows[::-1], "a")] == [0, 1, 2]
