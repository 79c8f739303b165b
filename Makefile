# make train, make test: each sets up .venv from the pinned requirements when it needs to.

PYTHON ?= python3
BIN := .venv/bin
# A process a GPU, else one a core, at most the lanes of the default config.
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

# Tests that need these are skipped without them. A CUDA build of torch brings Triton; without one the
# loops for a GPU are tested in its interpreter. CIDEr is 100 MB of other metrics' Java.
.venv/optional: .venv/ready
	-{ $(BIN)/python -c 'import triton' 2>/dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check triton==3.9.0; } && \
	$(BIN)/pip install --quiet --disable-pip-version-check pycocoevalcap==1.2 pycocotools==2.0.11 && touch $@

lock:  # choose the newest versions that pyproject.toml allows, torch's excepted
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet torch==2.13.0 && .lock/bin/pip install --quiet -e '.[all]'
	{ echo "# make lock writes this: every dependency, pinned. A CUDA build of torch brings its own."; \
	  .lock/bin/pip freeze --all --exclude-editable | grep -vE '^(nvidia|cuda|pip=|triton|pycoco)' | sed 's/+cpu//'; } > requirements.txt
	rm -rf .lock

clean:
	rm -rf .venv runs data/shards mlruns mlflow.db
