# One verb a line; each sets up what it needs.  PYTHON may name any Python from 3.11 on.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Three for two processors: the live tests wait for two fifths of their time.
PROCESSES ?= $(shell expr \( $$(nproc) \* 3 + 1 \) / 2)

.PHONY: setup demo test lint types suite bench docs man dist changelog wheels clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev --editable .
	touch $@

demo: setup
	$(BIN)/python bench/demo.py

bench: setup
	$(BIN)/python -m bench

test: lint types suite

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

suite: setup
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# What a release publishes.
dist: setup
	$(BIN)/python -m build --no-isolation --outdir dist

# The files of changes/ become a section of CHANGELOG.md, and are deleted.
changelog: setup
	$(BIN)/towncrier build --yes --version "$$($(BIN)/python -c 'from segue.version import VERSION; print(VERSION)')"

# dist/site/index.html is the documentation; it needs no network.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

man: setup
	$(BIN)/python -m docs.generate.man dist/man

# What deploy/container/Containerfile installs.
wheels: setup
	$(BIN)/python -m pip wheel --quiet --wheel-dir dist/wheels . uvicorn

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
