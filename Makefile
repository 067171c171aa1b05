# make demo: the whole way, from drawing people to a page of results. make test: what is checked.

PYTHON ?= python3
JOBS ?= 2
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup setup-newest setup-lowest demo test test-newest test-lowest test-all lint docs dist lock clean

setup: $(VENV)/.installed

# The stamp is younger than the two files: the environment holds what they ask for.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: jaxpose needs Python 3.11 or newer; run: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# The newest libraries that pyproject.toml allows, in place of the lock's.
setup-newest:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[train,predict,demo,convert,export,docs,test]'
	touch $(VENV)/.installed

# The lowest ones, each that pyproject.toml names by itself; needs uv.
setup-lowest:
	uv venv --quiet --clear --python '$(PYTHON)' $(VENV)
	uv pip install --quiet --python $(BIN)/python --resolution lowest-direct \
		--editable '.[train,predict,demo,coco,convert,export,cloud,test]'
	touch $(VENV)/.installed

demo: setup
	$(BIN)/python -m tfds_builders synthetic_people --data_dir runs/data
	$(BIN)/python launch.py --config=configs/synthetic.py --config.data_dir=runs/data \
		--workdir=runs/demo

test: setup
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS)

# The part of make test that other versions of Python and of the libraries may break.
COMPATIBILITY := tests/test_heatmaps.py tests/test_heatmap_transforms.py tests/test_peaks.py \
	tests/test_heatmap_targets.py tests/test_losses.py tests/test_depthwise.py tests/test_layers.py \
	tests/test_network.py tests/test_package.py tests/test_public_interface.py \
	tests/test_visualize.py tests/checkpoints tests/data tests/predict tests/runtime tests/training \
	tests/tfds_builders

test-newest: setup-newest
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) $(COMPATIBILITY)

# VENV=.venv-lowest leaves the environment of the other targets alone.
test-lowest: setup-lowest
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) $(COMPATIBILITY)

# What make test left out.
test-all: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.check_words
	$(BIN)/mypy

# The site, from the pages of docs/ and the docstrings.
docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --builder html --quiet docs docs/_build
	@echo "open docs/_build/index.html"

dist: setup
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

# One file for Python 3.11 and newer. bench (PyTorch's CPU build), onnx (its bound on Orbax), cuda12,
# cuda13 and tpu (gigabytes) stay out of it; needs uv.
lock:
	uv pip compile --upgrade --universal --python-version 3.11 --fork-strategy requires-python \
		--extra train --extra predict --extra demo --extra coco --extra convert --extra export --extra cloud \
		--extra docs --extra test \
		--no-header --no-annotate --quiet --output-file requirements.lock pyproject.toml

# Runs, data and the environment stay.
clean:
	rm -rf build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
