"""Fast filters for training images."""

from codesign.preprocess.filters import box_blur, gaussian_blur

__all__ = ["box_blur", "gaussian_blur"]
