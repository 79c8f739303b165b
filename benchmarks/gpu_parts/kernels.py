"""Kernels of layers and of whole updates: which cuDNN chooses, and what graphs would save."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from benchmarks.gpu_parts import layers
from benchmarks.gpu_parts.small_runs import small_trainer
from benchmarks.gpu_parts.steps import Machine
from benchmarks.gpu_parts.timing import capture, median_time, profile_kernels
from pipeline.runtime.device import to_device
from tests.helpers.corpora import CASES


def cudnn_kernels(machine: Machine) -> dict[str, Any]:
    """Kernels that cuDNN chooses for each layout of two bidirectional layers."""
    shapes = itertools.product(
        machine.choose(("lstm", "gru"), ("lstm",)),
        machine.choose(("bf16", "fp16"), ("bf16",)),
        machine.choose((128, 256, 1024), (32,)),
        machine.choose((64, 120), (4,)),
    )
    tokens = machine.choose(200, 8)
    for cell, dtype, hidden, rows in shapes:
        ways = layers.build_implementations(cell, layers.DTYPES[dtype], hidden, tokens, rows)
        for way in ("reversed", "packed", "padded"):
            name = f"{cell} {dtype} H={hidden} B={rows} {way}"
            machine.keep(name, _or_error(profile_kernels, ways[way], machine.device))
    return machine.kept


def update_kernels(machine: Machine) -> dict[str, Any]:
    """Kernels of an update's forward and backward pass, by task, and the slowest of them."""
    for task in CASES:
        with _fixed_update(machine, task) as make_run:
            machine.keep(task, profile_kernels(make_run(), machine.device))
    return machine.kept


def graphs(machine: Machine) -> dict[str, Any]:
    """Milliseconds of an update's forward and backward pass, eager and as a CUDA graph."""

    def replay(make_run: MakeRun) -> float:
        return median_time(capture(make_run(), machine.device), machine.device) * 1e3

    def eager_time(make_run: MakeRun) -> float:
        return median_time(make_run(), machine.device) * 1e3

    for task in CASES:
        with _fixed_update(machine, task) as make_run:
            graph = _or_error(
                replay, make_run
            )  # first, while no .grad was allocated on another stream
            if isinstance(graph, str):  # a failed capture may leave its stream current
                machine.keep(task, {"graph": graph})
                break
            machine.keep(task, {"graph": graph, "eager": eager_time(make_run)})
    return machine.kept


def compiled(machine: Machine) -> dict[str, Any]:
    """Milliseconds of a forward and backward pass without dropout, eager and compiled."""

    def compiled_time(make_run: MakeRun) -> float:
        return median_time(make_run(compile_model=True), machine.device) * 1e3

    # torch.compile fails on the masks of dropout, whose int64 products overflow.
    no_dropout = ("model.dropout=0", "model.embedding_dropout=0")
    tasks = ("classification", "tagging", "language_modeling")
    for task in machine.choose(tasks, tasks[:1]):
        with _fixed_update(machine, task, *no_dropout) as make_run:
            eager = median_time(make_run(), machine.device) * 1e3
            machine.keep(task, {"eager": eager, "compiled": _or_error(compiled_time, make_run)})
    return machine.kept


class MakeRun(Protocol):
    """Returns a function that runs one batch forward and backward."""

    def __call__(self, *, compile_model: bool = False) -> Callable[[], None]: ...


@contextmanager
def _fixed_update(machine: Machine, task: str, *changes: str) -> Iterator[MakeRun]:
    """Yield a `MakeRun` of the first batch of a task's small corpus."""
    sizes = machine.choose(
        ("model.hidden=128", "model.embedding=128", "stream.token_budget=16384"), ()
    )
    changes = ("train.precision=bf16", "model.dropout=0.1", *sizes, *changes)
    with small_trainer(machine, task, *changes) as trainer:
        update = next(trainer.stream.remaining())
        host_batch = trainer.task.prepare_batch(update.batches[0])
        batch = host_batch.map(lambda tensor: to_device(tensor, machine.device))

        def make_run(*, compile_model: bool = False) -> Callable[[], None]:
            model: Any = torch.compile(trainer.model) if compile_model else trainer.model

            def run() -> None:
                with trainer.precision.autocast():
                    sums = trainer.task.loss(model, batch)
                sums[0].backward()

            return run

        yield make_run


def _or_error(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, or its error as a text, so that a step continues."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"failed: {(str(error).splitlines() or [repr(error)])[0]}"
