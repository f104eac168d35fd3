"""A first call compiles, and a shared machine stalls: neither is what a test of these rooms is about."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
