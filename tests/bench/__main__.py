"""`python -m tests.bench`: every benchmark, one after the other."""

from tests.bench import cost, filters

for module in (cost, filters):
    module.main()
