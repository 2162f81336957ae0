# The two commands of the README. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: quickstart test lint fast docs gpu clean

quickstart: $(VENV)/.installed
	$(BIN)/codegen quickstart

# Lint, types, contracts and the tests; `make test` is all that CI runs.
test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyrefly check --threads 2

# The tests that take milliseconds.
fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not long"

# The documentation's site, in site/.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Everything that a GPU can show, in runs/gpu; a run that was cut is resumed.
gpu: $(VENV)/.installed-test
	$(BIN)/codegen bench gpu

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, for instance: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# What an editable install compiles: a newer source means installing again.
CORE := setup.py $(wildcard decoding/suffix/*.?pp kernels/cpu/*.?pp codegen/sandbox/isolation/*.[ch])

$(VENV)/.installed: pyproject.toml $(CORE) | $(VENV)/bin/python
	@echo "Installing PyTorch, transformers and others into $(VENV): 1.6 GB, or several on a machine with CUDA."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,gguf]'
	touch $@

$(VENV)/.installed-test: pyproject.toml $(CORE) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
