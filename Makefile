# Two commands: `make demo` and `make test`. Each builds .venv by itself, with nothing but Python >= 3.11 on the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench agreement clean

demo: $(STAMP)
	$(BIN)/bluesky-powder demo --directory demo-output

# Kernels are compiled once, by two processes, rather than by every test worker; then one worker more than there are
# processors, as servers keep them waiting.
test: $(STAMP)
	$(BIN)/python -m benchmarks.kernels uint8 int16 uint16 int32 > /dev/null & \
	  $(BIN)/python -m benchmarks.kernels uint32 int64 uint64 float32 float64 > /dev/null && wait $$!
	$(BIN)/python -m pytest -n $$($(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))') --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks --output bench.md

agreement: $(STAMP)
	$(BIN)/python -m benchmarks.agreement

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bluesky-powder needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) demo-output bench.md .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
