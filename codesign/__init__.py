"""Co-design of neural-network training and the hardware that runs it."""

from codesign.design import DesignPoint, LayerFormats, Role, uniform
from codesign.errors import CodesignError
from codesign.formats import FloatFormat
from codesign.quantize import Rounding, round_to_format

__version__ = "0.1.0"

__all__ = [
    "CodesignError",
    "DesignPoint",
    "FloatFormat",
    "LayerFormats",
    "Role",
    "Rounding",
    "__version__",
    "round_to_format",
    "uniform",
]
