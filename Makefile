# `make demo` and `make test` need no more than Python and a way to PyPI: they
# make a virtual environment of their own and install the package there, once.

PYTHON ?= python3
VENV ?= .venv
# Or tensorflow-cpu, a third of the size, where it exists: Linux and Windows.
TENSORFLOW ?= tensorflow
DEMO_FLAGS ?=
VERSIONS_FLAGS ?=
# A process for each core; tests of one file share their models. The files come
# in the order of tests/conftest.py, not those with most tests first.
PYTEST_FLAGS ?= --numprocesses=auto --dist=loadfile --no-loadscope-reorder

export TF_CPP_MIN_LOG_LEVEL ?= 2

python := $(VENV)/bin/python
installed := $(VENV)/.installed

.PHONY: demo test lint docs versions release-check clean

demo: $(installed)  ## The main example; its flags go into DEMO_FLAGS.
	$(python) -m examples.weight_penalties $(DEMO_FLAGS)

test: $(installed)  ## Everything: format, lint and types are tests, too.
	$(python) -m pytest $(PYTEST_FLAGS)

lint: $(installed)
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy

docs: $(installed)  ## The documentation site, into site/.
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict

versions:  ## The fast part of the tests, on several versions of Keras.
	$(PYTHON) .ci/versions.py $(VERSIONS_FLAGS)

# Builds what would be uploaded, and tries it in new environments: minutes.
release-check: $(installed)
	$(python) -m pip install --quiet --editable '.[release]'
	KERAS_DRMAD_RELEASE=1 $(python) -m pytest -m release

# Made again when pyproject.toml is newer, for its list of requirements. Python
# compiles a module when it is first imported: of TensorFlow's a few.
$(installed): pyproject.toml
	$(PYTHON) -m venv "$(VENV)"
	$(python) -m pip install --quiet --no-compile --editable '.[$(TENSORFLOW),test]'
	touch "$@"

clean:
	rm -rf .venv .versions build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -exec rm -rf {} +
