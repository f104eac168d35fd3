"""Quantities for people: three digits and a prefix."""

from __future__ import annotations

import math

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


def si(value: float, unit: str) -> str:
    """`1.23 ms`, `45.6 GB`; three significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}".strip()
    power = min(15, max(-15, 3 * math.floor(math.log10(abs(value) * (1 + 5e-4)) / 3)))
    scaled = value / 10**power
    digits = max(0, 2 - math.floor(math.log10(abs(scaled) * (1 + 5e-4))))
    return f"{scaled:.{digits}f} {_PREFIXES[power]}{unit}".strip()


def seconds(value: float) -> str:
    """A time; empty for none."""
    return si(value, "s") if value else ""


def bytes_of(bits: float) -> str:
    """A number of bits, in bytes of 1000."""
    return si(bits / 8, "B")


def percent(share: float) -> str:
    """A share with one digit behind the point."""
    return f"{100 * share:.1f} %"
