"""Evaluate a toy corpus of segmented documents on any number of ranks.

    python -m torch.distributed.run --nproc_per_node=2 segments.py SEED

Rank 0 prints the evaluation as JSON.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World, connect
from pipeline.stream.batch import Batch, collate
from pipeline.stream.rows import Columns, Ragged, Rows
from pipeline.tasks.classification import Classification
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

LABELS = ["bad", "good", "mixed"]
DOCUMENTS = 80


class ByFirstToken(nn.Module):
    """Model whose scores are a lookup by first token, so they do not depend on the batch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.scores = nn.Parameter(3 * torch.randn(500, len(LABELS), generator=generator))

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.scores[tokens[:, 0]]


def corpus() -> list[tuple[list[list[int]], int]]:
    """Return each document's segments, which differ widely in length, and its label."""
    rng = np.random.default_rng(0)
    return [
        (
            [
                rng.integers(4, 500, rng.choice([1, 3, 20])).tolist()
                for _ in range(rng.choice([1, 2, 3, 5]))
            ],
            int(rng.integers(len(LABELS))),
        )
        for _ in range(DOCUMENTS)
    ]


def batches(rank: int, world: int, seed: int) -> Iterator[Batch]:
    """Yield this rank's share of each batch of up to 8 rows, in an order shuffled by `seed`.

    All ranks get the same number of batches.
    """
    rows = [
        (ids, label, 7 * number, segment, len(segments))  # document ids need not be consecutive
        for number, (segments, label) in enumerate(corpus())
        for segment, ids in enumerate(segments)
    ]
    order = np.random.default_rng(seed).permutation(len(rows))
    token_ids, labels, document_ids, segment_indices, segment_counts = (
        list(column) for column in zip(*rows, strict=True)
    )
    columns: Columns = {
        "tokens": Ragged.of(np.concatenate(token_ids), np.array([len(ids) for ids in token_ids])),
        "label": np.array(labels),
        "document": np.array(document_ids),
        "segment": np.array(segment_indices),
        "segments": np.array(segment_counts),
    }
    for start in range(0, len(rows), 8):
        indices = order[start : start + 8][rank::world]
        rank_rows = Rows.of(columns, len(rows)).take(indices, np.zeros_like(indices))
        yield collate(rank_rows, slice(0, len(indices)), size=8, length=20)


def evaluate_corpus(world: World, seed: int) -> dict[str, object]:
    """Evaluate the corpus; return the metrics and the mistakes, ordered by loss."""
    data = Data({"tokenizer": 500}, {"label": LABELS})
    task = Classification(task_settings(), model_settings(), data)
    precision = Precision("fp32", world.device)
    rank_batches = batches(world.rank, world.size, seed)
    documents = document_outputs(task, ByFirstToken(), rank_batches, precision, world)
    metrics = task.make_metrics(task_settings(metrics=["auroc", "cohen_kappa"]))
    evaluation, mistakes = evaluate(task, documents, world, metrics)
    return {**asdict(evaluation), "mistakes": [asdict(mistake) for mistake in mistakes]}


if __name__ == "__main__":
    with connect(RankInfo.from_environment()) as world:
        result = evaluate_corpus(world, int(sys.argv[1]))
    if world.first:
        print(json.dumps(result))
