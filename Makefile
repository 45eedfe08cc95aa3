# One verb a line; each sets up what it needs.  PYTHON may name any Python from 3.11 on.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Three for two processors: the live tests wait for two fifths of their time.
PROCESSES ?= $(shell expr \( $$(nproc) \* 3 + 1 \) / 2)

.PHONY: setup demo test lint types suite bench wheels clean

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

# What deploy/container/Containerfile installs.
wheels: setup
	$(BIN)/python -m pip wheel --quiet --wheel-dir dist/wheels . uvicorn

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
