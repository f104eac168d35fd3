"""Real networks, real data, real training in a design point's own number formats.

Names that need torch are loaded when they are first asked for: data sets and recipes stay light.
"""

from typing import TYPE_CHECKING

from codesign.faces import lazy
from codesign.nn.data import NAMES, Dataset, import_function, load_dataset
from codesign.nn.recipe import Recipe

if TYPE_CHECKING:
    from codesign.nn.calibrated import quantize_network
    from codesign.nn.checkpoint import load_checkpoint, save_checkpoint
    from codesign.nn.lowp import Formats, convert, strip
    from codesign.nn.networks import build
    from codesign.nn.policy import Policy, Rounder, Scaling
    from codesign.nn.stage import Accuracy, Effort, Span, TrainingData, TrainingState, batches, evaluate, train

__all__ = [
    "NAMES",
    "Accuracy",
    "Dataset",
    "Effort",
    "Formats",
    "Policy",
    "Recipe",
    "Rounder",
    "Scaling",
    "Span",
    "TrainingData",
    "TrainingState",
    "batches",
    "build",
    "convert",
    "evaluate",
    "import_function",
    "load_checkpoint",
    "load_dataset",
    "quantize_network",
    "save_checkpoint",
    "strip",
    "train",
]

__getattr__ = lazy(
    __name__,
    {
        "calibrated": ("quantize_network",),
        "checkpoint": ("load_checkpoint", "save_checkpoint"),
        "lowp": ("Formats", "convert", "strip"),
        "networks": ("build",),
        "policy": ("Policy", "Rounder", "Scaling"),
        "stage": ("Accuracy", "Effort", "Span", "TrainingData", "TrainingState", "batches", "evaluate", "train"),
    },
)
