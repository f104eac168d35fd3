"""Shared scale factors of an operand, and the bits that they take."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.errors import CostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """One scale of `bits` for every `block` numbers of an operand: OCP microscaling formats have 8 bits for 32.

    A scale per tensor or channel is a block of that many numbers. Accumulators and optimizer states have none.
    """

    block: int
    bits: int

    def __post_init__(self) -> None:
        if self.block < 1 or not 0 <= self.bits <= 64:
            raise CostError(f"scales: block must be positive and bits 0 to 64, got {self.block} and {self.bits}")

    @classmethod
    def parse(cls, text: str) -> Scales:
        """`BITS/BLOCK`, as in `8/32`."""
        bits, _, block = text.partition("/")
        if not (bits.isdecimal() and block.isdecimal()):
            raise CostError(f"scales must be BITS/BLOCK, for example 8/32, got '{text}'")
        return cls(bits=int(bits), block=int(block))

    def stored(self, numbers: int, width: int) -> int:
        """Bits of so many numbers of `width` bits."""
        return numbers * width + -(-numbers // self.block) * self.bits


NO_SCALES = Scales(block=1, bits=0)
