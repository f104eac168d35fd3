"""The first call of a rounding compiles it, which no deadline foresees."""

from hypothesis import settings

settings.register_profile("compiles", deadline=None)
settings.load_profile("compiles")
