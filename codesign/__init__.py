"""Co-design of neural-network training and the hardware that runs it."""

from codesign.cost import simulate
from codesign.design import DesignPoint, LayerFormats, Role, uniform
from codesign.errors import CodesignError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, load_accelerator
from codesign.quantize import Rounding, round_to_format
from codesign.version import VERSION as __version__
from codesign.workload import GemmShape, Phase, Workload

__all__ = [
    "Accelerator",
    "CodesignError",
    "DesignPoint",
    "FloatFormat",
    "GemmShape",
    "LayerFormats",
    "Phase",
    "Role",
    "Rounding",
    "Workload",
    "__version__",
    "load_accelerator",
    "round_to_format",
    "simulate",
    "uniform",
]
