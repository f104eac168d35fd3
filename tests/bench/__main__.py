"""`python -m tests.bench`: every benchmark, one after the other."""

from tests.bench import filters

for module in (filters,):
    module.main()
