# `make train` and `make test` first install the pinned requirements into .venv if necessary.

PYTHON ?= python3
BIN := .venv/bin
# One process per GPU; without GPUs one per core, at most the number of lanes in the default config.
NPROC ?= $(shell gpus=$$(nvidia-smi -L 2>/dev/null | wc -l); cores=$$(env -u OMP_NUM_THREADS nproc); \
	echo $$((gpus ? gpus : cores < 24 ? cores : 24)))

.PHONY: train test setup lock clean

train: setup
	OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc_per_node=$(NPROC) launch/train.py

test: setup .venv/optional
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest -n auto

setup: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Optional test dependencies: tests that need them are skipped if they cannot be installed.
# CUDA builds of torch include Triton. Other builds test the GPU kernels in Triton's interpreter.
# pycocoevalcap (CIDEr) is optional because it contains 100 MB of Java code for other metrics.
.venv/optional: .venv/ready
	-{ $(BIN)/python -c 'import triton' 2>/dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check triton==3.9.0; } && \
	$(BIN)/pip install --quiet --disable-pip-version-check pycocoevalcap==1.2 pycocotools==2.0.11 && touch $@

lock:  # pin the newest versions that pyproject.toml allows, except torch's
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet torch==2.13.0 && .lock/bin/pip install --quiet -e '.[all]'
	{ echo "# Written by make lock: all dependencies, pinned. CUDA builds of torch add their own."; \
	  .lock/bin/pip freeze --all --exclude-editable | grep -vE '^(nvidia|cuda|pip=|triton|pycoco)' | sed 's/+cpu//'; } > requirements.txt
	rm -rf .lock

clean:
	rm -rf .venv runs data/shards mlruns mlflow.db
