"""Quantization of an ONNX graph to int8.

onnxruntime's dynamic quantization: the weights of LSTM layers and embeddings have 8 bits, with one
scale per tensor. Only 7 bits are used, because sums of products with 8 overflow on x86 CPUs without
VNNI. The input and the state of an LSTM layer are quantized when the graph runs, with one scale per
batch, so the outputs of a row also depend on the other rows.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.errors import RunError
from pipeline.export.onnx.check import Part, comparisons

logger = logging.getLogger(__name__)

TASKS = ("classification", "tagging")
"""Tasks for which docs/onnx.md has measurements of the accuracy in int8."""
OPERATORS = ("LSTM", "Gather")
"""Operators that are quantized."""
MAX_MEAN, MAX_LARGEST = 0.02, 0.25
"""Accepted differences of probabilities, on average and at most. The difference of a text or word
is that of its label or tag that differs the most."""
ROUNDS = 8
"""Number of batches for each of `LENGTHS` in the comparison of probabilities."""


def require_supported(config: Config) -> None:
    """Raise RunError if a model cannot be exported in int8."""
    name, model = config.task.name, config.model
    if name not in TASKS:
        raise _refusal(f"task.name={name}", f"supported are {' and '.join(TASKS)}")
    cell = getattr(model, "cell", None)
    if cell != "lstm":
        raise _refusal(f"model.cell={cell}", "onnxruntime quantizes only lstm")
    for key in ("zoneout", "zoneout_memory"):
        if value := getattr(model, key):
            raise _refusal(
                f"model.{key}={value}", "such layers are loops, which onnxruntime does not quantize"
            )


def quantize(path: Path, part: Part) -> dict[str, Any]:
    """Quantize an ONNX file in place, and return the entry `int8` of config.json.

    Raises RunError if probabilities differ from the model's by more than `MAX_MEAN` on average, or
    if one differs by more than `MAX_LARGEST`.
    """
    from onnxruntime.quantization import quantize_dynamic

    with _no_warnings():
        quantize_dynamic(path, path, op_types_to_quantize=list(OPERATORS), reduce_range=True)
    differences = _differences(path, part)
    mean, largest = float(differences.mean()), float(differences.max())
    if not (mean <= MAX_MEAN and largest <= MAX_LARGEST):
        raise RunError(
            f"--int8: probabilities differ from fp32 by {mean:.3f} on average and {largest:.3f} at "
            f"most, and {MAX_MEAN} and {MAX_LARGEST} are accepted, so nothing was written; leave "
            "it out"
        )
    logger.info(
        "%s: in int8, probabilities differ from fp32 by %.1e on average and %.1e at most",
        path.name, mean, largest,
    )  # fmt: skip
    return {
        "compared": f"{len(differences)} predictions for random inputs",
        "mean_difference": round(mean, 6),
        "largest_difference": round(largest, 6),
    }


def _differences(path: Path, part: Part) -> NDArray[Any]:
    """Return the difference between the model and the file for each text or word."""
    assert part.probabilities is not None, "the part of a task in TASKS"
    by_batch = []
    for _, inputs, expected, found in comparisons(path, part, ROUNDS):
        model, file = (part.probabilities(inputs, outputs) for outputs in (expected, found))
        by_batch.append(np.abs(model - file).max(-1))
    return np.concatenate(by_batch)


def _refusal(setting: str, reason: str) -> RunError:
    return RunError(f"{setting}: cannot be exported in int8: {reason}; leave out --int8")


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Turn off logging: the quantizer warns about tensors that need no quantization."""
    before, handler = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(handler)  # without one, its warning would configure the root logger
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)
