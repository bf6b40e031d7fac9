# Two commands for a fresh machine: `make demo` runs the default study, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check setup clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/pbb-probe run

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	# a thread for each of two processes, which are given whole files in the order of tests/conftest.py
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

clean:
	rm -rf .venv runs build *.egg-info
