"""Fast filters for training images: Gaussian, box, bilateral, guided; functions, and transforms of a pipeline.

Functions take numpy arrays or CPU tensors, uint8 or float32, shape [..., channels, height, width]:

    gaussian_blur(x, sigma, *, kernel_size=None, border="reflect101", out=None)
    box_blur(x, radius, *, border="reflect101", out=None)
    bilateral_filter(x, sigma_space, sigma_range, *, radius=None, distance="l1", exact=True, border=..., out=None)
    guided_filter(x, radius, eps, *, border="reflect101", out=None)

Transforms are picklable callables: GaussianBlur, BoxBlur, BilateralFilter, GuidedFilter. A configuration file names one
by a table, and the room that reads the file hands the table over, one call a transform:

    transform_from_config({"name": "gaussian_blur", "sigma": [0.1, 2.0], "p": 0.5})  ->  GaussianBlur

with ConfigError for an unknown name, an unknown or missing parameter, or a value out of range.
"""

from codesign.preprocess.configuration import Transform, transform_from_config
from codesign.preprocess.filters import bilateral_filter, box_blur, gaussian_blur, guided_filter
from codesign.preprocess.images import BORDERS, instruction_sets
from codesign.preprocess.transforms import BilateralFilter, BoxBlur, GaussianBlur, GuidedFilter

__all__ = [
    "BORDERS",
    "BilateralFilter",
    "BoxBlur",
    "GaussianBlur",
    "GuidedFilter",
    "Transform",
    "bilateral_filter",
    "box_blur",
    "gaussian_blur",
    "guided_filter",
    "instruction_sets",
    "transform_from_config",
]
