"""`python -m tests.bench`: every benchmark, one after the other."""

from tests.bench import filters, quantize

for module in (filters, quantize):
    module.main()
