# `make train` and `make test` first install the pinned requirements into .venv if necessary.

PYTHON ?= python3
BIN := .venv/bin
# Any pip that a supported Python brings works: PEP 517 builds everything the same way.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --use-pep517
# One process per GPU that torch sees; without GPUs one per core, at most the number of lanes in the
# default config.
COUNT := import os, torch; print(torch.cuda.device_count() or min(len(os.sched_getaffinity(0)), 24))

.PHONY: train check test campaign lint setup setup-dev lock wheelhouse clean

train: setup  ## train the default config
	OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --local-addr=localhost \
		--nproc_per_node=$(or $(NPROC),$$($(BIN)/python -c "$(COUNT)")) launch/train.py

check: lint  ## what one runs while working: linters, types, layers, words, fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow and not distributed and not campaign"

test: .venv/optional lint  ## everything except campaigns
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not campaign"

campaign: .venv/optional  ## the tests that make test leaves out: further tasks and crashes
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m campaign

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.language.check_words
	$(BIN)/hadolint Dockerfile

setup: .venv/ready

setup-dev: .venv/dev

.venv/ready: requirements.txt pyproject.toml
	$(if $(filter 3.%,$(PYTHON)),python3,$(PYTHON)) -m venv .venv
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/ready requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

# Optional test dependencies: tests that need them are skipped if they cannot be installed.
# CUDA builds of torch include Triton. Other builds test the GPU kernels in Triton's interpreter.
# pycocoevalcap (CIDEr) is optional because it contains 100 MB of Java code for other metrics.
.venv/optional: .venv/dev
	-{ $(BIN)/python -c 'import triton' 2>/dev/null || $(PIP) triton==3.9.0; } && \
	$(PIP) pycocoevalcap==1.2 pycocotools==2.0.11 && touch $@

# Pin the newest versions that pyproject.toml allows, except torch's: what training needs in
# requirements.txt, what only development needs beside it in requirements-dev.txt.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet torch==2.13.0 && .lock/bin/pip install --quiet '.[run]' setuptools
	{ echo "# Written by make lock: what training needs, pinned. CUDA builds of torch add their own."; \
	  $(FREEZE); } > requirements.txt
	.lock/bin/pip install --quiet '.[all]'
	{ echo "# Written by make lock: what only development needs, pinned."; \
	  $(FREEZE) | grep -vxFf requirements.txt; } > requirements-dev.txt
	rm -rf .lock
FREEZE = .lock/bin/pip freeze --all | grep -vE '^(nvidia|cuda|headrace|pip=|triton|pycoco)' | sed 's/+cpu//'

# make wheelhouse PYTHON=3.12: wheels for a machine without internet whose image has torch.
wheelhouse: setup
	rm -rf wheelhouse
	$(BIN)/python benchmarks/wheelhouse.py wheelhouse \
		$(addprefix --extras=,$(EXTRAS)) $(addprefix --include=,$(INCLUDE)) \
		--python-version=$(or $(filter 3.%,$(patsubst python%,%,$(PYTHON))),3.12)

clean:
	rm -rf .venv runs data/shards mlruns mlflow.db
