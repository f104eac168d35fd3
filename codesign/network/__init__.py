"""One reading of a torch network: its operations in order, and which of its channels can leave together.

`import codesign.network` loads no torch; a name of the reading does so when it is first used.
"""

from typing import TYPE_CHECKING

from codesign.faces import lazy
from codesign.network.groups import ChannelGroup
from codesign.network.kinds import OperationKind

if TYPE_CHECKING:
    from codesign.network.attention import HeadPrunedAttention, all_prunable, become, make_prunable
    from codesign.network.labels import Classes, Place, support
    from codesign.network.modes import batch_statistics, evaluating, statistics_kept
    from codesign.network.operations import Operation, Value
    from codesign.network.products import Product
    from codesign.network.reading import Reading, ReadingMode, read
    from codesign.network.rules import BATCH_NORMS, Findings, tensors
    from codesign.network.stored import Stored, number, stored_tensors
    from codesign.network.trace import Example, NetworkFailure, call, elementwise, watch

__all__ = [
    "BATCH_NORMS",
    "ChannelGroup",
    "Classes",
    "Example",
    "Findings",
    "HeadPrunedAttention",
    "NetworkFailure",
    "Operation",
    "OperationKind",
    "Place",
    "Product",
    "Reading",
    "ReadingMode",
    "Stored",
    "Value",
    "all_prunable",
    "batch_statistics",
    "become",
    "call",
    "elementwise",
    "evaluating",
    "make_prunable",
    "number",
    "read",
    "statistics_kept",
    "stored_tensors",
    "support",
    "tensors",
    "watch",
]

__getattr__ = lazy(
    __name__,
    {
        "attention": ("HeadPrunedAttention", "all_prunable", "become", "make_prunable"),
        "labels": ("Classes", "Place", "support"),
        "modes": ("batch_statistics", "evaluating", "statistics_kept"),
        "operations": ("Operation", "Value"),
        "products": ("Product",),
        "reading": ("Reading", "ReadingMode", "read"),
        "rules": ("BATCH_NORMS", "Findings", "tensors"),
        "stored": ("Stored", "number", "stored_tensors"),
        "trace": ("Example", "NetworkFailure", "call", "elementwise", "watch"),
    },
)
