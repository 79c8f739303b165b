"""Random rows with scores whose calibration is known."""

import torch
from torch import Tensor

from pipeline.evaluation.calibration.scored_rows import ScoredRows


def rows_of(scores: Tensor, targets: Tensor, seed: int = 0) -> ScoredRows:
    """Return rows with random, ascending hashes."""
    draw = torch.Generator().manual_seed(seed)
    hashes = torch.randint(-(2**62), 2**62, (len(targets),), generator=draw).sort().values
    return ScoredRows(scores, targets, hashes)


def overconfident(count: int, labels: int, temperature: float, seed: int = 0) -> ScoredRows:
    """Return rows whose labels are drawn from softmax(logits / temperature), with scores
    softmax(logits)."""
    draw = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, labels, generator=draw, dtype=torch.float64)
    targets = torch.multinomial((logits / temperature).softmax(-1), 1, generator=draw)[:, 0]
    return rows_of(logits.softmax(-1), targets, seed)


def several_labels(count: int, shares: list[float], seed: int = 0, shift: float = 2) -> ScoredRows:
    """Return rows in which label k has share `shares[k]`. True labels have higher scores, but the
    best threshold is far below 0.5."""
    draw = torch.Generator().manual_seed(seed)
    true = torch.rand(count, len(shares), generator=draw) < torch.tensor(shares)
    noise = torch.randn(count, len(shares), generator=draw, dtype=torch.float64)
    return rows_of((3 * true + noise - 2 - shift).sigmoid(), true, seed)
