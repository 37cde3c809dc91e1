# Two environments, each made when it is missing or older than what describes it: .venv has everything that the tests
# need, .venv-cpu only what `pip install 'mmsearch[cpu]'` brings. CONSTRAINTS= takes today's newest versions instead.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
CPU := .venv-cpu
PIP_OPTIONS := --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test light torture check docs bench constraints clean

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_OPTIONS) --editable '.[dev]'
	touch $@

$(CPU)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(CPU)
	$(CPU)/bin/pip install $(PIP_OPTIONS) --editable '.[cpu]'
	touch $@

$(CPU)/pytest: $(CPU)/installed
	$(CPU)/bin/pip install $(PIP_OPTIONS) pytest pytest-timeout
	touch $@

demo: $(CPU)/installed  ## index data/samples and search it in every direction, without torch
	@PATH="$(CURDIR)/$(CPU)/bin:$$PATH" bash benchmarks/demo.sh

test: $(VENV)/installed  ## run the tests, a module at a time on each of up to four cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

light: $(CPU)/pytest  ## run the tests that are marked for it where torch isn't installed
	$(CPU)/bin/python -m pytest -m light tests/test_light.py

torture: $(VENV)/installed  ## kill it at every I/O call, feed it mutants and hostile libraries; half an hour on two cores
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/torture.py

check: $(VENV)/installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install $(PIP_OPTIONS) --editable '.[docs]'
	touch $@

docs: $(VENV)/docs  ## write the reference from the program, and build the site into site/
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/installed  ## measure speed and memory
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py

constraints:  ## write down the versions of both environments, made anew from the newest ones
	$(MAKE) clean
	$(MAKE) CONSTRAINTS= $(VENV)/docs $(CPU)/pytest
	(echo "# The versions that the tests last passed with, made by 'make constraints': pip install -c constraints.txt 'mmsearch[cpu]'"; \
	  for venv in $(VENV) $(CPU); do $$venv/bin/pip list --format=freeze --exclude-editable; done \
	  | grep -v '^pip=' | sort -uf) > constraints.tmp
	mv constraints.tmp constraints.txt

clean:
	rm -rf $(VENV) $(CPU) .demo site
