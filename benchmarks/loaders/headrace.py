"""This project's loader with default settings."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.loaders.common import SEED, Batch, Rows
from pipeline.corpus.dataset.blocks import batch, schema
from pipeline.corpus.dataset.index import compute_salt, write_index
from pipeline.corpus.dataset.manifest import (
    FORMAT,
    INDEX,
    Manifest,
    Split,
    TokenizerFacts,
    open_dataset,
)
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.shard_writer import plan_shards, write_shard
from pipeline.corpus.prepare.work_dir import TRAIN, Part, PreparationContext, Totals
from pipeline.corpus.settings import CorpusSettings
from pipeline.storage.atomic import sha256_of
from pipeline.stream.opening import open_loader
from pipeline.stream.plan import Position
from pipeline.stream.settings import StreamSettings

VOCAB_SIZE = 1 << 16
BATCH_ROWS = 1024


def convert(rows: Rows, folder: Path) -> None:
    """Run the last stage of preparation: write tokenized rows as shards and an index."""
    fields = (FieldSpec("tokens", "text", "text"), FieldSpec("label", "label", "label"))
    context = PreparationContext(
        folder.with_suffix(".partial"), CorpusSettings(input="rows", shards=str(folder)), fields
    )
    context.out.mkdir(parents=True)
    context.tokenizer_path("tokenizer").write_text(
        "{}"
    )  # placeholder, as the rows are already tokenized
    lengths = np.array([len(row) for row in rows.tokens], np.int32)
    tokens = int(lengths.sum())
    totals = Totals(len(lengths), tokens, int(lengths.max()), tokens * 2 + len(lengths) * 8)
    part = Part(0, {TRAIN: totals})
    path = context.part_path(0, f"{TRAIN}.arrow")
    path.parent.mkdir()
    arrow_schema = schema(fields, {"tokenizer": VOCAB_SIZE})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, arrow_schema) as writer:
        for start in range(0, len(lengths), BATCH_ROWS):
            selected = slice(start, start + BATCH_ROWS)
            cells = list(zip(rows.tokens[selected], rows.labels[selected].tolist(), strict=True))
            writer.write_batch(batch(arrow_schema, cells))
    salt = compute_salt(totals)
    plans = plan_shards(context, TRAIN, totals, [part], salt)
    shards = tuple(write_shard(context, plan) for plan in plans)
    index, rows_per_block = context.out / TRAIN / INDEX, context.settings.rows_per_block
    records = (context.packed_path(TRAIN, plan.number, "index") for plan in plans)
    write_index(index, records, -(-totals.rows // rows_per_block), rows_per_block)
    split = Split(
        rows=totals.rows,
        tokens=totals.tokens,
        max_length=totals.max_length,
        salt=salt,
        index_sha256=sha256_of(index),
        shards=shards,
    )
    manifest = Manifest(
        location=str(context.out),
        format=FORMAT,
        settings={},
        fields=fields,
        names={},
        counts={},
        tokenizers={
            "tokenizer": TokenizerFacts(sha256_of(context.tokenizer_path("tokenizer")), VOCAB_SIZE)
        },
        inputs=(),
        splits={TRAIN: split},
        report={},
    )
    (context.out / "dataset.json").write_text(json.dumps(manifest.to_json()))
    context.out.rename(folder)
    shutil.rmtree(context.work)


class Loader:
    settings = "tar, Arrow blocks of 512 rows; token_budget 16384, bucketing, no thread"
    resuming = "Loader.epoch(position)"

    def __init__(self, folder: Path) -> None:
        self._loader = open_loader(open_dataset(folder), StreamSettings(), SEED)
        self._position = Position()

    def epoch(self, number: int) -> Iterator[Batch]:
        return self._batches(Position(epoch=number))

    def state(self) -> Any:
        return asdict(self._position)

    def resume(self, state: Any) -> Iterator[Batch]:
        return self._batches(Position(**state))

    def _batches(self, start: Position) -> Iterator[Batch]:
        for update in self._loader.epoch(start):
            self._position = update.after
            for prepared in update.batches:
                yield {
                    "tokens": prepared.columns["tokens"],
                    "lengths": prepared.lengths,
                    "labels": prepared.columns["label"],
                }
