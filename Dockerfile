# Build an image with the PyPI build of torch, which runs on NVIDIA GPUs and on CPUs:
#   docker build -t headrace .
# Build with another torch (CPU only, or another CUDA version); URL is its wheel index, as listed on
# PyTorch's installation page:
#   docker build -t headrace --build-arg TORCH_INDEX_URL=URL .
# Train:
#   docker run --gpus all --shm-size 1g -v "$PWD/data:/app/data" -v "$PWD/runs:/app/runs" headrace \
#     torchrun --nproc_per_node=4 launch/train.py
ARG PYTHON=3.11.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r requirements.txt

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="headrace"
# g++ compiles the recurrent loops at run time, for the CPU that the container runs on
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 headrace && mkdir -p /app/data /app/runs && chown -R 1000 /app
COPY --from=build /opt/venv /opt/venv
COPY --chown=1000 pipeline /app/pipeline
COPY --chown=1000 launch /app/launch
COPY --chown=1000 configs /app/configs
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /app
CMD ["torchrun", "--nproc_per_node=1", "launch/train.py"]
