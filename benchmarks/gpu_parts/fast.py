"""Speed, memory and power of training on a GPU."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks import machine as machines
from benchmarks import made, tasks
from benchmarks.gpu_parts import layers
from benchmarks.gpu_parts.steps import Machine, Step
from pipeline import config
from tests.helpers.processes import REPOSITORY


def product_rates(machine: Machine) -> dict[str, Any]:
    """Rate of a large matrix product, the limit that all speeds are compared with."""
    rates = {}
    for name, dtype in machines.DTYPES.items():
        if machine.is_gpu or name != "fp16":
            rates[name] = machines.product_rate(dtype, on=machine.device)
    return {"operations per second": rates}


def layer_speeds(machine: Machine) -> dict[str, Any]:
    """Million tokens per second of two bidirectional layers, by implementation."""
    found = {}
    shapes = itertools.product(
        ("lstm", "gru", "goru"),
        machine.choose(("bf16", "fp16"), ("bf16",)),
        machine.choose((128, 256, 1024), (32,)),
        machine.choose((64, 256), (4,)),
    )
    tokens = machine.choose(200, 8)
    for cell, dtype, hidden, rows in shapes:
        ways = layers.build_implementations(cell, layers.DTYPES[dtype], hidden, tokens, rows)
        for way, run in ways.items():
            if way == "triton" and not machine.is_gpu:
                continue
            key = f"{cell} {dtype} H={hidden} B={rows} {way}"
            try:
                found[key] = tokens * rows / layers.median_time(run) / 1e6
            except Exception as error:  # keep measuring the other implementations
                found[key] = f"failed: {(str(error).splitlines() or [repr(error)])[0]}"
    return found


def default_model(machine: Machine) -> dict[str, Any]:
    """Training of the default model (IMDB's shape, made corpus)."""
    return _train(machine, "imdb", [], steps=machine.choose(100, 5))


def gnmt(machine: Machine) -> dict[str, Any]:
    """Training of GNMT's shape (made corpus); NVIDIA reports 140,909 tokens/s on an A100."""
    small = ["model.hidden=16", "model.embedding=16", "corpus.vocab_size=600"]
    overrides = machine.choose(["stream.token_budget=65536"], [*small, "stream.token_budget=2048"])
    return _train(machine, "gnmt", overrides, steps=machine.choose(60, 5))


def wide_lstm(machine: Machine) -> dict[str, Any]:
    """A language model with an LSTM of 4096 units; eight V100s: 630,000 characters/s."""
    hidden = machine.choose(4096, 16)
    overrides = [
        "model.softmax=full", "model.layers=1", f"model.hidden={hidden}", "model.embedding=64",
        "stream.batch_rows=128", "stream.bptt_length=128", "corpus.vocab_size=300",
    ]  # fmt: skip
    if not machine.is_gpu:
        overrides += ["stream.batch_rows=4", "stream.bptt_length=16"]
    return _train(machine, "wikitext2", overrides, steps=machine.choose(60, 5))


def _train(machine: Machine, name: str, overrides: list[str], *, steps: int) -> dict[str, Any]:
    """Train a config on a made corpus; return speed, waiting time, memory and power."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        changes = [
            "track.enabled=false",
            f"train.max_steps={steps}", f"train.log_every={max(steps // 5, 1)}",
            f"run.dir={folder}/run", "train.epochs=99", *overrides,
        ]  # fmt: skip
        settings = config.load(REPOSITORY / "configs" / f"{name}.yaml", changes)
        rows = tasks.rows_needed(settings, tasks.PLANS[name].shape, steps)
        corpus = made.write(settings, tasks.PLANS[name].shape, folder / "made", rows)
        command = [sys.executable, "launch/train.py", "--config", f"configs/{name}.yaml"]
        with _Power(machine) as power:
            done = subprocess.run(
                [*command, *corpus, *changes], cwd=REPOSITORY, capture_output=True, text=True
            )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        values = [v for line in lines if "perf/tokens_per_s" in (v := json.loads(line))]
    measured = values[1:5]  # the first fifth is start-up

    def mean(metric: str) -> float:
        return statistics.mean(value[metric] for value in measured)

    return {
        "tokens per second": statistics.harmonic_mean(v["perf/tokens_per_s"] for v in measured),
        "share of waiting for data": statistics.mean(
            v["perf/data_wait_fraction"] for v in measured
        ),
        "share of padding": mean("perf/padding_fraction"),
        "GPU memory, MB": max(v.get("perf/gpu_memory_mb", 0) for v in values),
        "power, W": power.median,
    }


class _Power:
    """Samples the GPU's power once a second, by nvidia-smi; 0 if it cannot be read."""

    def __init__(self, machine: Machine) -> None:
        self._is_gpu, self._samples, self._stop = machine.is_gpu, [0.0], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def median(self) -> float:
        return statistics.median(self._samples[1:] or self._samples)

    def __enter__(self) -> "_Power":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        while self._is_gpu and not self._stop.wait(1):
            done = subprocess.run(query, capture_output=True, text=True)
            try:
                self._samples.append(float(done.stdout.split()[0]))
            except (IndexError, ValueError):
                return


STEPS = (
    Step("product_rates", 30, product_rates),
    Step("default_model", 120, default_model),
    Step("gnmt", 150, gnmt),
    Step("wide_lstm", 120, wide_lstm),
    Step("layer_speeds", 120, layer_speeds),
)
