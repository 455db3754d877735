# `make demo` and `make test` need no more than Python and a way to PyPI: they
# make a virtual environment of their own and install the package there, once.

PYTHON ?= python3
VENV ?= .venv
DEMO_FLAGS ?=
# A process for each core; tests of one file share their models.
PYTEST_FLAGS ?= --numprocesses=auto --dist=loadfile

export TF_CPP_MIN_LOG_LEVEL ?= 2

python := $(VENV)/bin/python
installed := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(installed)  ## The main example; its flags go into DEMO_FLAGS.
	$(python) -m examples.weight_penalties $(DEMO_FLAGS)

test: lint  ## Everything, cheapest first: format, lint, types, all tests.
	$(python) -m pytest $(PYTEST_FLAGS)

lint: $(installed)
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy

# Made again when setup.py is newer, for its list of requirements.
$(installed): setup.py
	$(PYTHON) -m venv "$(VENV)"
	$(python) -m pip install --quiet --editable '.[examples,test]'
	touch "$@"

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -exec rm -rf {} +
