"""`codesign formats [F ...]`: what a number format can hold."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.formats import FloatFormat

_NAMED = (
    *("e4m3fn", "e5m2", "e4m3", "e3m4", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m2", "e2m3", "e2m1", "e8m0", "e0m7"),
    *("bfloat16", "float16", "tf32", "float32"),
)
_LISTED = 32  # positive values that are written out one by one
_LINE_WIDTH = 79


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    formats = commands.add_parser(
        "formats",
        help="range, precision and values of number formats",
        description="Range, precision and values of number formats; without a name, a table of the known ones.",
    )
    formats.add_argument("names", metavar="F", nargs="*", help="a format, for example e4m3, e5m2fnuz, e3m2b5, e5m2-inf")
    formats.add_argument("--json", action="store_true", help="machine-readable output")
    formats.set_defaults(execute=_formats)


def _formats(arguments: argparse.Namespace) -> int:
    named = {name: FloatFormat.parse(name) for name in arguments.names or _NAMED}
    if arguments.json:
        records = [{"name": name, **_record(fmt)} for name, fmt in named.items()]
        print(json.dumps({"schema": "codesign.formats/1", "formats": records}, indent=1))
    elif len(named) == 1:
        for name, fmt in named.items():
            _print_one(name, fmt)
    else:
        _print_table(named)
    return 0


def _record(fmt: FloatFormat) -> dict[str, Any]:
    return {
        "format": str(fmt),
        "bits": fmt.bits,
        "sign_bits": int(fmt.signed),
        "exponent_bits": fmt.exponent_bits,
        "mantissa_bits": fmt.mantissa_bits,
        "bias": fmt.bias,
        "reserved": str(fmt.reserved),
        "subnormals": str(fmt.subnormals),
        "overflow": str(fmt.overflow),
        "infinite_input": str(fmt.infinite_input),
        "nan_input": str(fmt.nan_input),
        "infinity": fmt.has_infinity,
        "nan": fmt.has_nan,
        "max": fmt.max,
        "min_normal": fmt.min_normal,
        "min_subnormal": fmt.min_subnormal,
        "epsilon": _epsilon(fmt),
        "quantum": fmt.quantum,
        "dynamic_range_db": _dynamic_range_db(fmt),
        "finite_values": _finite_values(fmt),
        "dtype": fmt.dtype_name,
        "values": fmt.values() if fmt.bits <= 8 else None,
    }


def _epsilon(fmt: FloatFormat) -> float | None:
    """Spacing of the normal numbers over the power of two below them; None where there is no normal number."""
    return None if fmt.min_normal is None else 2.0**-fmt.mantissa_bits


def _precision(fmt: FloatFormat) -> str:
    epsilon = _epsilon(fmt)
    if epsilon is None:
        return f"steps of {_power(fmt.quantum)}; rounding errs by at most {fmt.quantum / 2:g}"
    return f"epsilon {_power(epsilon)}; rounding a normal number errs by at most {50 * epsilon:.3g} %"


def _smallest(fmt: FloatFormat) -> float | None:
    return fmt.min_subnormal or fmt.min_normal


def _dynamic_range_db(fmt: FloatFormat) -> float | None:
    """20 log10 of the largest over the smallest positive value."""
    smallest = _smallest(fmt)
    return None if smallest is None else 20 * math.log10(fmt.max / smallest)


def _finite_values(fmt: FloatFormat) -> int:
    """Distinct finite values; plus and minus zero count as one."""
    positive = fmt.encode(fmt.max)
    if fmt.min_normal is not None and fmt.min_subnormal is None and fmt.signed:
        positive -= (1 << fmt.mantissa_bits) - 1
    return 2 * positive + 1 if fmt.signed else positive + 1


def _print_table(named: dict[str, FloatFormat]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("format", "bits", "E", "M", "bias", "largest", "min normal", "min subnormal", "epsilon", "dB"):
        table.add_column(heading, justify="left" if heading == "format" else "right", no_wrap=True)
    table.add_column("reserved", no_wrap=True)
    for name, fmt in named.items():
        decibels = _dynamic_range_db(fmt)
        table.add_row(
            name,
            *map(str, (fmt.bits, fmt.exponent_bits, fmt.mantissa_bits, fmt.bias)),
            *map(_number, (fmt.max, fmt.min_normal, fmt.min_subnormal, _epsilon(fmt))),
            "-" if decibels is None else f"{decibels:.0f}",
            _reserved(fmt),
        )
    Console(width=120, highlight=False).print(table)


def _print_one(name: str, fmt: FloatFormat) -> None:
    parts = f"{'1' if fmt.signed else 'no'} sign + {fmt.exponent_bits} exponent + {fmt.mantissa_bits} mantissa"
    print(f"{fmt}: {fmt.bits} bits = {parts}, bias {fmt.bias}")
    decibels = _dynamic_range_db(fmt)
    facts = {
        "also named": name if name != str(fmt) else "",
        "not to be taken for": "e4m3fn, the E4M3 of the OCP standard, up to 448" if str(fmt) == "e4m3" else "",
        "dtype": fmt.dtype_name or "",
        "largest": _power(fmt.max),
        "smallest normal": _power(fmt.min_normal),
        "smallest subnormal": _power(fmt.min_subnormal),
        "precision": _precision(fmt),
        "dynamic range": "" if decibels is None else f"{decibels:.1f} dB",
        "finite values": f"{_finite_values(fmt):,}",
        "reserved codes": _reserved(fmt),
        "overflow": {"sat": "saturates", "inf": "becomes infinity", "nan": "becomes NaN"}[fmt.overflow],
        "infinite input": {"overflow": "as overflow", "keepinf": "stays", "infnan": "becomes NaN"}[fmt.infinite_input],
        "NaN input": {"keepnan": "stays NaN", "nanzero": "becomes zero"}[fmt.nan_input],
        "subnormals": {"keep": "kept", "flush": "flushed to zero"}[fmt.subnormals] if fmt.mantissa_bits else "none",
    }
    for label, fact in facts.items():
        if fact:
            print(f"  {label:20} {fact}")
    _print_values(fmt)


def _print_values(fmt: FloatFormat) -> None:
    """One row for each binade, and a number line where the values can be told apart."""
    if fmt.max == 0:
        return
    if fmt.bits <= 8:
        print(f"\n  0 to {fmt.max:g}, one mark for each value")
        print("  " + _number_line([value for value in fmt.values() if value >= 0]))
    print(f"\n  {'from':>12} {'to':>12} {'step':>10}  values")
    rows = _binades(fmt)
    shown = rows if len(rows) <= _LISTED else [*rows[:4], None, *rows[-4:]]
    for row in shown:
        if row is None:
            print(f"  {'...':>12} {'...':>12} {'...':>10}  ({len(rows) - 8} binades more)")
            continue
        first, last, step, count = row
        values = " ".join(f"{first + k * step:.6g}" for k in range(count)) if count <= 8 else f"{count:,}"
        print(f"  {first:>12.6g} {last:>12.6g} {_exponent(step):>10}  {values}")


def _binades(fmt: FloatFormat) -> list[tuple[float, float, float, int] | None]:
    """(first value, last value, step, number of values) of the subnormals and of each binade, non-negative."""
    rows: list[tuple[float, float, float, int] | None] = []
    per_binade = 1 << fmt.mantissa_bits
    top = fmt.encode(fmt.max)
    for start in range(0, top + 1, per_binade):
        stop = min(start + per_binade, top + 1)
        if start == 0 and fmt.signed and fmt.min_subnormal is None:
            rows.append((0.0, 0.0, fmt.quantum, 1))
            continue
        first, last = fmt.decode(start), fmt.decode(stop - 1)
        exponent = max(math.frexp(last)[1] - 1, fmt.min_exponent)
        rows.append((first, last, math.ldexp(1.0, exponent - fmt.mantissa_bits), stop - start))
    return rows


def _number_line(values: list[float]) -> str:
    places = {round((_LINE_WIDTH - 1) * value / values[-1]) for value in values}
    return "".join("|" if place in places else "-" for place in range(_LINE_WIDTH))


def _reserved(fmt: FloatFormat) -> str:
    return {
        "ieee": "top exponent: infinity, NaN" if fmt.has_nan else "top exponent: infinity",
        "fn": "all ones: NaN",
        "fnuz": "minus zero: NaN",
        "all": "none",
    }[fmt.reserved]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _exponent(power: float) -> str:
    return f"2^{math.frexp(power)[1] - 1}"


def _power(value: float | None) -> str:
    """A number, and the power of two that it is, if it is one."""
    if value is None:
        return "none"
    is_power = math.frexp(value)[0] == 0.5
    return f"{value:.9g}" + (f" = {_exponent(value)}" if is_power and value != 1 else "")
