# make demo: draw synthetic people, train a network on them and write a report. make test: run the tests.

PYTHON ?= python3
JOBS ?= 2
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup setup-newest setup-lowest demo test test-newest test-lowest test-all lint docs dist lock clean

setup: $(VENV)/.installed

# The environment is up to date if this file is newer than requirements.lock and pyproject.toml.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: jaxpose needs Python 3.11 or newer; run: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# Install the newest libraries that pyproject.toml allows instead of those of requirements.lock.
setup-newest:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[train,predict,demo,convert,export,docs,test]'
	touch $(VENV)/.installed

# Install the lowest allowed version of each library that pyproject.toml names. Needs uv.
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

# The tests that may fail with other versions of Python or of the libraries.
COMPATIBILITY := tests/test_heatmaps.py tests/test_heatmap_transforms.py tests/test_peaks.py \
	tests/test_heatmap_targets.py tests/test_losses.py tests/test_depthwise.py tests/test_layers.py \
	tests/test_network.py tests/test_package.py tests/test_public_interface.py \
	tests/test_visualize.py tests/checkpoints tests/data tests/predict tests/runtime tests/training \
	tests/tfds_builders

test-newest: setup-newest
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) $(COMPATIBILITY)

# Add VENV=.venv-lowest to keep the environment of the other targets.
test-lowest: setup-lowest
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS) $(COMPATIBILITY)

# The slow tests, which make test skips; those of a file share what is slow to make.
test-all: setup
	$(BIN)/python -m pytest -m slow --numprocesses $(JOBS) --dist loadfile \
		--no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.check_words
	$(BIN)/mypy

# Build the documentation site from docs/ and the docstrings.
docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --builder html --quiet docs docs/_build
	@echo "open docs/_build/index.html"

dist: setup
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

# Write one requirements.lock for Python 3.11 and newer. Needs uv. These extras are not locked: bench
# (it uses PyTorch's CPU build), onnx (it limits the version of Orbax), cuda12, cuda13 and tpu
# (gigabytes).
lock:
	uv pip compile --upgrade --universal --python-version 3.11 --fork-strategy requires-python \
		--extra train --extra predict --extra demo --extra coco --extra convert --extra export --extra cloud \
		--extra docs --extra test \
		--no-header --no-annotate --quiet --output-file requirements.lock pyproject.toml

# Remove build outputs and caches; keep runs, data and the environment.
clean:
	rm -rf build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
