"""Compares the outputs of an exported graph in onnxruntime with those of the model in torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.export.onnx.graph import Graph

Arrays = dict[str, NDArray[Any]]

LENGTHS = ((1,), (3,), (17,), (400,), (17, 400, 1, 3))
"""Number of tokens of each row, for each batch that is compared."""
TOLERANCE = (1e-4, 1e-5)
"""Relative and absolute tolerance of an output."""


@dataclass(frozen=True)
class Part:
    """A graph, and the inputs and reference outputs of its check."""

    graph: Graph
    inputs: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    """Draws random inputs for a batch of rows of the given lengths, with 0 for padding."""
    reference: Callable[[Arrays], Arrays]
    """Computes the outputs with the model in torch, in float32; NaN where they are undefined."""
    padded: Mapping[str, str]
    """Inputs with padding and the inputs with their lengths, by name."""
    tolerances: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Relative and absolute tolerances of outputs that differ from `TOLERANCE`."""
    probabilities: Callable[[Arrays, Arrays], NDArray[Any]] | None = None
    """Computes the model's probabilities [rows, C] from inputs and outputs; None: it has none that
    `pipeline.export.onnx.quantization` can compare."""


class Comparison(NamedTuple):
    """The outputs for a batch, in torch and in onnxruntime."""

    lengths: tuple[int, ...]
    inputs: Arrays
    expected: Arrays
    found: Arrays


def check(path: Path, part: Part) -> float:
    """Return the largest difference between the outputs of an ONNX file and those of its model.

    The padding is random in onnxruntime's inputs, so it must not affect the outputs. Raises
    RunError if an output differs by more than the tolerances.
    """
    largest = 0.0
    for lengths, _, expected, found in comparisons(path, part):
        for name in expected:
            tolerance = part.tolerances.get(name, TOLERANCE)
            difference = _largest_difference(found[name], expected[name], *tolerance)
            if difference is None:
                raise RunError(
                    f"{path.name}: the output {name} of onnxruntime differs from the model's for "
                    f"rows of {' and '.join(map(str, lengths))} tokens, so nothing was written; "
                    f"report this with the run's config.yaml"
                )
            largest = max(largest, difference)
    return largest


def comparisons(path: Path, part: Part, rounds: int = 1) -> Iterator[Comparison]:
    """Run an ONNX file and its model on random inputs: `rounds` batches for each of `LENGTHS`."""
    session = open_session(path)
    rng = np.random.default_rng(0)
    for lengths in LENGTHS * rounds:
        inputs = part.inputs(rng, lengths)
        expected = part.reference(inputs)
        given = _with_random_padding(rng, inputs, part.padded)
        names = list(expected)
        found = dict(zip(names, session.run(names, given), strict=True))
        yield Comparison(lengths, inputs, expected, found)


def open_session(path: Path, threads: int = 1) -> Any:
    """Return a session of onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _largest_difference(
    found: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float
) -> float | None:
    """Return the largest difference, or None if it is too large or the shapes differ."""
    if found.shape != expected.shape:
        return None
    defined = np.isfinite(expected)
    found, expected = found[defined], expected[defined]
    if not np.allclose(found, expected, rtol=rtol, atol=atol):
        return None
    return float(np.abs(found - expected).max(initial=0))


def _with_random_padding(
    rng: np.random.Generator, inputs: Arrays, padded: Mapping[str, str]
) -> Arrays:
    """Return the inputs with their padding replaced by random values of the rows."""
    result = dict(inputs)
    for name, lengths in padded.items():
        values = inputs[name].copy()
        padding = np.arange(values.shape[1]) >= inputs[lengths][:, None]
        used = values[~padding]
        values[padding] = used[rng.integers(len(used), size=int(padding.sum()))]
        result[name] = values
    return result
