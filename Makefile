# make demo: the whole way, from drawing people to a page of results. make test: what is checked.

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin

.PHONY: setup demo test test-all lint lock clean

setup: .venv/.installed

# The stamp is younger than the two files: the environment holds what they ask for.
.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: jaxpose needs Python 3.11 or newer; run: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/python -m tfds_builders synthetic_people --data_dir runs/data
	$(BIN)/python launch.py --config=configs/synthetic.py --config.data_dir=runs/data \
		--workdir=runs/demo

test: setup
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS)

# What make test left out.
test-all: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.check_words
	$(BIN)/mypy

# One file for Python 3.11 and newer. bench (PyTorch's CPU build), onnx (its bound on Orbax), cuda12,
# cuda13 and tpu (gigabytes) stay out of it; needs uv.
lock:
	uv pip compile --upgrade --universal --python-version 3.11 --fork-strategy requires-python \
		--extra train --extra predict --extra demo --extra convert --extra export --extra cloud --extra test \
		--no-header --no-annotate --quiet --output-file requirements.lock pyproject.toml

# Runs, data and the environment stay.
clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
