# Needs Python 3.11 or newer and a C compiler; everything else is installed into .venv by pip.
PYTHON ?= python3
BIN := .venv/bin
# The CPU wheel; a looser range downloads gigabytes of GPU libraries.
TORCH := torch==2.13.0

# A warning of the C compiler stops the developers' build, not a user's.
STRICT := $(if $(filter test,$(MAKECMDGOALS)),--config-settings=cmake.define.CODESIGN_WERROR=ON)

# Training processes of the demonstration.
WORKERS ?= 2

# Processes of the tests, and seeds of the runs in which the last bits of every matrix product differ.
JOBS ?= 2
DISTURB ?= 1

.PHONY: demo test bench page clean

.venv/installed: pyproject.toml csrc/CMakeLists.txt csrc/bind.py $(shell find csrc -name '*.[ch]')
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet $(STRICT) --editable '.[test,plot,dask]'
	touch $@

demo: .venv/installed
	$(BIN)/codesign search configs/searches/digits.toml --out runs/digits --workers $(WORKERS)
	@echo "open runs/digits/report.html in a browser"

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)
	for seed in $(DISTURB); do \
		CODESIGN_DISTURB=$$seed OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) -q -r f tests/search tests/prune tests/quantize || exit 1; \
	done

bench: .venv/installed
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python -m tests.bench

# The checked-in program of the what-if page; after every change of the C core that it contains.
page:
	sh csrc/page.sh $(CURDIR)/codesign/whatif/page.wasm

clean:
	rm -rf .venv build runs
