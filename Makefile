# make demo    sets everything up and runs the main job on the embedded data
# make test    sets everything up and runs the tests, in under ten minutes
# make fast    the tests that take under a minute
# make test-slow    the tests that take minutes each, such as those that write docs/ again
# make check   formatting, lint and types
# make bench   measures ratios against peers, for half an hour, and puts them into docs/benchmarks.md
# make docs    draws the figures and tables of docs/ anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test fast test-slow check bench docs

demo: $(VENV)/.core
	$(BIN)/foveate compare --out demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal

fast: $(VENV)/.test
	$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal -m "not slow and not long"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile -m long

check: $(VENV)/.check
	$(BIN)/ruff format --check src tests docs examples benchmarks
	$(BIN)/ruff check src tests docs examples benchmarks
	$(BIN)/pyright

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/table.py --page docs/benchmarks.md

docs: $(VENV)/.core
	$(BIN)/python docs/make.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) --editable '.[check]'
	@touch $@
