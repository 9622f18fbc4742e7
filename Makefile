# make demo    the main job on a small real data set, from nothing
# make test    the tests           make check   lint, format and types
# make bench   the comparison with other methods (needs LABELFIX_DATA)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow check format bench clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.runtime $@

demo: $(VENV)/.runtime
	$(BIN)/labelfix demo --force

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python examples/compare_with_cleanlab.py

clean:
	rm -rf $(VENV) labelfix-demo .mypy_cache .ruff_cache .pytest_cache
