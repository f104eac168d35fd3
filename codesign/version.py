"""The version of the package: that of its metadata, so that pyproject.toml alone says it."""

from importlib.metadata import version

VERSION = version("codesign")
