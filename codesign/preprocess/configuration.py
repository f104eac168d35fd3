"""Transforms from a configuration file's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from codesign.errors import ConfigError, did_you_mean
from codesign.preprocess.transforms import BilateralFilter, BoxBlur, GaussianBlur, GuidedFilter

Transform = GaussianBlur | BoxBlur | BilateralFilter | GuidedFilter

_TRANSFORMS: dict[str, type[Transform]] = {
    "gaussian_blur": GaussianBlur,
    "box_blur": BoxBlur,
    "bilateral_filter": BilateralFilter,
    "guided_filter": GuidedFilter,
}


def transform_from_config(table: Mapping[str, Any]) -> Transform:
    """The transform that `table` describes: its `name`, and the fields of its class.

    `{"name": "gaussian_blur", "sigma": [0.1, 2.0], "p": 0.5}` is `GaussianBlur(sigma=(0.1, 2.0), p=0.5)`.
    Names: gaussian_blur, box_blur, bilateral_filter, guided_filter.
    """
    parameters = dict(table)
    name = parameters.pop("name", None)
    if name is None:
        raise ConfigError(f'transform without a name; write for example name = "gaussian_blur"; got {dict(table)}')
    if not isinstance(name, str) or name not in _TRANSFORMS:
        raise ConfigError(f"unknown transform {name!r}{did_you_mean(str(name), _TRANSFORMS)}")
    known = {field.name: field for field in fields(_TRANSFORMS[name])}
    for parameter in parameters:
        if parameter not in known:
            raise ConfigError(f"transform '{name}': unknown parameter '{parameter}'{did_you_mean(parameter, known)}")
    for parameter, field in known.items():
        if field.default is MISSING and parameter not in parameters:
            raise ConfigError(f"transform '{name}': parameter '{parameter}' is missing")
    return _TRANSFORMS[name](**parameters)
