"""Confidence intervals of metrics by the bootstrap over documents.

In each resample, a document counts n times, where n has a Poisson distribution with mean 1. Unlike
in the usual bootstrap, the number of documents in a resample is not fixed (Chamandy et al. 2012,
"Estimating Uncertainty for Massive Data Streams"). A document's key seeds its counts, so the
intervals do not depend on the batches or on the number of ranks.

Shapes: D documents, K resamples, S sums of the task.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.evaluation.scoring import compute
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import Metric, join_scored
from pipeline.tasks.base.task import Task

RESAMPLES = 1000
TEXT_RESAMPLES = 100
"""Number of resamples for metrics of generated texts, such as BLEU, which are slow to compute."""
LEVEL = 0.95
Intervals = dict[str, tuple[float, float]]
Counts = NDArray[np.int64]


class Bootstrap:
    """Resamples the documents of an evaluation."""

    def __init__(self, task: Task, metrics: Sequence[Metric] = ()) -> None:
        self._task, self._metrics = task, metrics
        self._sums: NDArray[np.float64] | None = None  # [K, S]
        self._documents = np.zeros(RESAMPLES, np.int64)  # [K]
        self._texts: list[tuple[int, tuple[str, ...]]] = []
        self._scored: list[tuple[int, tuple[Tensor, Tensor]]] = []

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the documents of a batch on the CPU, with the task's outputs."""
        counts, sums = [], []
        keys = batch.columns.get(DOCUMENT, batch.keys)
        for rows in self._task.resampled_rows(batch):
            own_outputs, own = outputs[rows], batch.select(rows)
            if not (own.weights > 0).any():
                continue
            key = int(keys[rows[0]])
            sums.append(self._task.evaluate(own_outputs, own)[0].numpy())
            counts.append(_counts(key))
            self._texts += [(key, t) for t in self._task.texts_to_score(own_outputs, own)]
            if self._metrics:
                predictions, targets = self._task.scored(own_outputs, own)
                self._scored.append((key, (predictions, targets.double())))
        if not counts:
            return
        by_document = np.stack(counts)  # [D, K]
        total = by_document.T @ np.stack(sums)  # [K, S]
        self._sums = total if self._sums is None else self._sums + total
        self._documents += by_document.sum(0)

    def intervals(self, world: World) -> Intervals:
        """Return the bounds of each metric's interval, at the confidence `LEVEL`.

        A metric that is not finite in most resamples has no interval. Collective: every rank must
        call it.
        """
        parts = world.gather((self._sums, self._documents, self._texts, self._scored))
        if not world.first:
            return world.from_first(None) or {}
        sums = sum(s for s, _, _, _ in parts if s is not None)
        documents = sum(d for _, d, _, _ in parts)
        texts = [text for _, _, own, _ in parts for text in own]
        scored = [pair for _, _, _, own in parts for pair in own]
        values: dict[str, list[float]] = {}
        resamples = np.flatnonzero(documents)[: TEXT_RESAMPLES if texts else RESAMPLES]
        text_counts = _counts_of([key for key, _ in texts], len(resamples))
        for k, resample in enumerate(resamples):
            repeated = [
                text
                for (_, text), count in zip(texts, text_counts[:, k], strict=True)
                for _ in range(count)
            ]
            evaluation = self._task.summarize(torch.from_numpy(sums[resample]), repeated)
            for name, value in evaluation.metrics.items():
                values.setdefault(name, []).append(value)
        if scored:
            values |= self._resample_scored(scored, resamples)
        del values["examples"]
        return world.from_first(_bounds(values))

    def _resample_scored(
        self, scored: Sequence[tuple[int, tuple[Tensor, Tensor]]], resamples: Counts
    ) -> dict[str, list[float]]:
        predictions, targets, has_unknown = join_scored([pair for _, pair in scored])
        metrics = [m.with_unknown() if has_unknown else m for m in self._metrics]
        counts = torch.from_numpy(_counts_of([key for key, _ in scored], RESAMPLES))
        found: dict[str, list[float]] = {metric.name: [] for metric in metrics}
        for resample in resamples:
            rows = torch.arange(len(targets)).repeat_interleave(counts[:, resample])
            for metric in metrics:
                found[metric.name].append(compute(metric, predictions[rows], targets[rows]))
        return found


def _counts(key: int) -> Counts:
    """Return how many times a document counts in each resample [K]."""
    generator = np.random.Generator(np.random.Philox(key=key % 2**64))
    return generator.poisson(1, RESAMPLES).astype(np.int64)


def _counts_of(keys: Sequence[int], resamples: int) -> Counts:
    """Return the counts of documents [D, `resamples`]."""
    counts = [_counts(key)[:resamples] for key in keys]
    return np.stack(counts) if counts else np.zeros((0, resamples), np.int64)


def _bounds(values: dict[str, list[float]]) -> Intervals:
    bounds: Intervals = {}
    tail = 50 * (1 - LEVEL)
    for name, found in values.items():
        finite = [value for value in found if math.isfinite(value)]
        if len(finite) > len(found) / 2:
            low, high = np.percentile(finite, [tail, 100 - tail])
            bounds[name] = (float(low), float(high))
    return bounds
