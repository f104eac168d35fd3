"""Fast filters for training images."""

from codesign.preprocess.filters import bilateral_filter, box_blur, gaussian_blur

__all__ = ["bilateral_filter", "box_blur", "gaussian_blur"]
