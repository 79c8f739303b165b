"""Record the golden values of each task: dataset fingerprint, batches, losses and weights.

    python -m tests.golden.record    # writes tests/golden/values.json

Run this only if results change on purpose, and give the reason in the commit message.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipeline import config, tasks
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.prepare.prepare import prepare
from pipeline.runtime.process_group import World
from pipeline.stream.plan import Position
from pipeline.training.datasets import open_streams
from pipeline.training.session import train
from tests.helpers.corpora import CASES, small_run_overrides

VALUES = Path(__file__).with_name("values.json")
UPDATES = 20
TRAINING = (
    f"train.max_steps={UPDATES}", "train.epochs=9", "train.log_every=1", "train.ema_decay=0.9",
    "model.dropout=0.3", "model.embedding_dropout=0.1",
)  # fmt: skip


def golden_values(task: str, folder: Path) -> dict[str, Any]:
    """Prepare a task's small corpus, train 20 updates in fp32 and return the golden values.

    The fingerprint and the digest of the batches are exact. The last digits of losses and weights
    depend on the processor.
    """
    case = CASES[task]
    case.write(folder / case.file, case.rows)
    overrides = [*small_run_overrides(folder, task), *TRAINING, f"run.dir={folder}/run"]
    settings = config.load(None, overrides)
    prepare(settings.corpus, tasks.fields(task, settings.corpus))
    manifest = open_dataset(settings.corpus.shards)
    stream, _ = open_streams(settings, manifest, [], World(0, 1, torch.device("cpu")))
    train(settings)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [line["train/loss"] for line in map(json.loads, lines) if "train/loss" in line]
    weights = load_file(folder / "run" / "checkpoints" / "latest" / "model.safetensors")
    return {
        "fingerprint": manifest.fingerprint,
        "batches": _batches_digest(stream.prefetched(Position())),
        "losses": [round(loss, 7) for loss in losses],
        "weights": {name: _summary(weights[name]) for name in sorted(weights)},
        "weights_digest": _digest(weights[name] for name in sorted(weights)),
    }


def _batches_digest(updates: Any) -> str:
    """Return a digest of all tensors of an epoch's batches."""
    return _digest(
        tensor
        for update in updates
        for batch in update.batches
        for tensor in (*batch.columns.values(), batch.lengths, batch.weights, batch.keys)
    )


def _digest(tensors: Any) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _summary(weight: torch.Tensor) -> list[float]:
    """Return a tensor's sum and root mean square."""
    values = weight.double()
    return [round(values.sum().item(), 6), round(values.square().mean().sqrt().item(), 7)]


def main() -> None:
    values = {}
    for task in sorted(CASES):
        with tempfile.TemporaryDirectory() as folder:
            values[task] = golden_values(task, Path(folder))
    VALUES.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
