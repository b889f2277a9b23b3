# `make help` lists the targets. Everything is installed into .venv, at the versions in constraints.txt.
# Options for pip, such as the index of another PyTorch build: make demo PIP_ARGS="--extra-index-url URL"

VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Python compiles what is imported, once; compiling all that is installed takes longer than installing it.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt $(PIP_ARGS)
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check bench docs pages clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

demo: $(VENV)/.runtime ## encode the synthetic demo corpus, measure, and write runs/demo/report.html
	$(BIN)/engram run --overwrite --out runs/demo

test: $(VENV)/.dev ## all tests, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## speed of the kernels, as ratios measured in one run
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs ## the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pages: $(VENV)/.dev ## write the pages of docs/ that are tables of what stands in the code
	$(BIN)/python scripts/write_pages.py

clean: ## remove .venv, caches and built files; runs/ stays
	rm -rf $(VENV) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find src tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "audio-engram needs Python 3.11 or newer: install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps stand for what is installed; a changed pin or dependency makes them stale.
$(VENV)/.runtime: $(PINS) | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(PINS) | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: $(PINS) | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@ $(VENV)/.runtime
