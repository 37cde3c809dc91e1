# Everything runs in .venv, which is made from pyproject.toml when it is missing or older than it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test torture check bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## index data/samples and search it in every direction
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash benchmarks/demo.sh

test: $(VENV)/installed  ## run the tests, a module at a time on each of up to four cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

torture: $(VENV)/installed  ## kill it at every I/O call, feed it mutants and hostile libraries; half an hour on two cores
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/torture.py

check: $(VENV)/installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed  ## measure speed and memory
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf $(VENV) .demo
