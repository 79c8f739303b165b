"""Checks of training in one process: every task, precisions, repeated and resumed runs, memory."""

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.small_runs import (
    UPDATES,
    Recorder,
    losses,
    make_trainer,
    small_config,
    small_trainer,
    weights,
)
from benchmarks.gpu_parts.steps import Machine
from pipeline.errors import TrainingError
from pipeline.inference.model import load
from pipeline.run.folder import RunFolder
from pipeline.run.summary import read_summary
from pipeline.runtime.device import memory_errors
from pipeline.runtime.precision import Precision
from pipeline.training.session import train
from tests.helpers.corpora import CASES

LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.15}
"""Largest allowed difference between a loss and the same update's loss on a CPU in fp32, relative
to the largest loss. In fp16 the first updates overflow and are skipped."""
EQUAL_RUNS_TOLERANCE = 0.05
"""Largest difference of a weight between equal runs without deterministic algorithms."""


def train_fp32(machine: Machine) -> dict[str, Any]:
    """Every task in fp32: 12 losses match a CPU's; evaluation, resuming and prediction work."""
    return _train_tasks(machine, "fp32")


def train_bf16(machine: Machine) -> dict[str, Any]:
    """Every task in bf16: 12 losses match fp32 on a CPU; evaluation, resuming, prediction work."""
    return _train_tasks(machine, "bf16")


def train_fp16(machine: Machine) -> dict[str, Any]:
    """Every task in fp16 with loss scaling; in a rehearsal bf16, as fp16 is refused on a CPU."""
    return _train_tasks(machine, machine.choose("fp16", "bf16"))


def _train_tasks(machine: Machine, precision: str) -> dict[str, Any]:
    failed = {}
    for task in CASES:
        with tempfile.TemporaryDirectory() as name:
            try:
                machine.keep(task, _train_task(task, precision, Path(name)))
            except Exception as error:  # the other tasks still run
                failed[task] = repr(error)
    assert not failed, failed
    return machine.kept


def _train_task(task: str, precision: str, folder: Path) -> dict[str, Any]:
    """Train a task, compare with the CPU and with a resumed run, and predict."""
    recorder, threads = Recorder(), torch.get_num_threads()
    torch.set_num_threads(1)  # several are slower for such small models
    on_cpu = make_trainer(
        small_config(task, folder, "cpu", "train.precision=fp32"), torch.device("cpu")
    )
    on_cpu.listener = recorder
    on_cpu.train()
    torch.set_num_threads(threads)
    chosen = f"train.precision={precision}"
    train(small_config(task, folder, "whole", chosen))
    train(small_config(task, folder, "resumed", chosen, f"train.max_steps={UPDATES // 2}"))
    train(small_config(task, folder, "resumed", chosen))
    expected, whole, resumed = (
        recorder.losses, losses(folder / "whole"), losses(folder / "resumed")
    )  # fmt: skip
    assert whole.keys() == resumed.keys() == expected.keys()
    difference = max(abs(loss - expected[step]) for step, loss in whole.items())
    after_resume = max(abs(loss - resumed[step]) for step, loss in whole.items())
    assert difference <= LOSS_TOLERANCE[precision] * max(expected.values()), (whole, expected)
    assert after_resume <= LOSS_TOLERANCE[precision] * max(expected.values()), (whole, resumed)
    on_cpu_metrics = on_cpu.last_evaluation().metrics
    summary = read_summary(RunFolder(folder / "whole"))
    assert summary is not None
    evaluated = abs(summary.validation["loss"] - on_cpu_metrics["loss"])
    assert evaluated <= LOSS_TOLERANCE[precision] * on_cpu_metrics["loss"], (
        summary.validation, on_cpu_metrics
    )  # fmt: skip
    predictor = load(folder / "whole")
    if task not in ("images", "captioning"):
        predictions = predictor.predict(["the film was superb", "music"])
        assert all("error" not in prediction for prediction in predictions), predictions
    return {
        "difference of a loss from the CPU": difference,
        "difference of the validation loss": evaluated,
        "difference of a loss after a resume": after_resume,
        "resumed weights are equal bit for bit": weights(folder / "whole")
        == weights(folder / "resumed"),
    }


def host_syncs(machine: Machine) -> dict[str, Any]:
    """No update of any task waits for the device (PyTorch's sync debug mode)."""
    for task in CASES:
        with small_trainer(machine, task, "model.dropout=0.1") as trainer:
            updates = trainer._training_updates()
            trainer._update(next(updates))
            ready = [next(updates) for _ in range(2)]
            if machine.is_gpu:
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
            try:
                for update in ready:
                    trainer._update(update)
            finally:
                if machine.is_gpu:
                    torch.cuda.set_sync_debug_mode("default")
            updates.close()
    return {"tasks": len(CASES)}


def deterministic_runs(machine: Machine) -> dict[str, Any]:
    """With train.deterministic, equal runs and a resumed one have equal weights bit for bit."""
    found = _differences("train.deterministic=true")
    assert not any(found.values()), found
    return found


def equal_runs(machine: Machine) -> dict[str, Any]:
    """Largest difference of a weight between equal runs, and from a resumed one."""
    found = _differences()
    assert max(found.values()) <= EQUAL_RUNS_TOLERANCE, found
    return found


def _differences(*changes: str) -> dict[str, float]:
    """Return the largest differences of a weight from a run, by task and kind of another run."""
    from safetensors.torch import load

    found: dict[str, float] = {}
    for task in ("classification", "tagging", "language_modeling", "translation"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            common = ("model.dropout=0.1", "train.precision=bf16", *changes)
            train(small_config(task, folder, "first", *common))
            train(small_config(task, folder, "equal", *common))
            half = f"train.max_steps={UPDATES // 2}"
            train(small_config(task, folder, "resumed", *common, half))
            train(small_config(task, folder, "resumed", *common))
            first = load(weights(folder / "first"))
            for kind in ("equal", "resumed"):
                other = load(weights(folder / kind))
                found[f"{task}, {kind}"] = max(
                    float((first[name] - other[name]).abs().max()) for name in first
                )
    return found


def overflow(machine: Machine) -> dict[str, Any]:
    """Loss scaling in fp16 skips updates that overflow, lowers its scale and continues."""
    changes = ("train.max_steps=40", "train.epochs=9")
    with small_trainer(machine, "classification", *changes) as trainer:
        trainer.precision = Precision("fp16", machine.device)
        scale = 2.0**30
        trainer.scaler = torch.amp.GradScaler(machine.device.type, init_scale=scale)
        recorder = trainer.listener = Recorder()
        trainer.train()
        final = trainer.scaler.get_scale()
    assert final < scale, "no update overflowed"
    assert all(math.isfinite(loss) for loss in recorder.losses.values())
    return {"scale at first": scale, "scale at the end": final}


def out_of_memory(machine: Machine) -> dict[str, Any]:
    """Memory that runs out in training is reported by one clear line."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        if machine.is_gpu:
            torch.cuda.set_per_process_memory_fraction(0.005)
            settings = small_config("classification", Path(name), "run", "model.hidden=1024")
            try:
                train(settings)
            except TrainingError as error:
                lines += error.lines
        else:
            try:
                with memory_errors():
                    torch.empty(2**50, dtype=torch.uint8)
            except TrainingError as error:
                lines += error.lines
    assert len(lines) == 1, lines
    assert "out of memory" in lines[0], lines
    return {"line": lines[0]}
