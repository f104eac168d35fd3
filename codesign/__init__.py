"""Co-design of neural-network training and the hardware that runs it."""

from codesign.design import DesignPoint, LayerFormats, Role, uniform
from codesign.errors import CodesignError
from codesign.formats import FloatFormat

__version__ = "0.1.0"

__all__ = ["CodesignError", "DesignPoint", "FloatFormat", "LayerFormats", "Role", "__version__", "uniform"]
