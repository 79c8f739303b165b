"""The outputs of a trained model for encoded rows in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.field_spec import SEGMENT_COLUMNS, FieldSpec
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.inference.trained import TrainedModel
from pipeline.models.encoder import reversed_directions
from pipeline.models.settings import EncoderSettings
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.bucket import buckets
from pipeline.stream.plan import Position
from pipeline.stream.rows import Columns, columns_of

Outputs = Iterator[tuple[Tensor, Batch]]
"""A task's outputs for each batch, with the batch."""


def row_pipeline(
    model: TrainedModel,
    fields: Sequence[FieldSpec],
    overrides: Mapping[str, str] | None = None,
    *,
    open_names: bool = False,
) -> RowPipeline:
    """Return a row pipeline for some of a run's fields, without filters."""
    corpus = model.config.corpus.model_copy(update={"filters": {}, **(overrides or {})})
    return RowPipeline(
        corpus,
        fields,
        lambda name: model.files.dataset / f"{name}.json",
        model.manifest.names,
        open_names=open_names,
    )


def outputs(
    model: TrainedModel, fields: Sequence[FieldSpec], encoded: Sequence[EncodedExample]
) -> Outputs:
    """Yield the task's outputs for examples; the `document` of a row is its example's index."""
    batches = batches_of(model, fields, encoded)
    yield from document_outputs(model.task, model.module, batches, model.precision, model.world)


def batches_of(
    model: TrainedModel, fields: Sequence[FieldSpec], encoded: Sequence[EncodedExample]
) -> Iterator[Batch]:
    """Yield batches of examples; the `document` of a row is its example's index."""
    cells = [row for result in encoded for row in result.rows]
    if not cells:
        return
    segments = np.array([len(result.rows) for result in encoded])
    document = np.repeat(np.arange(len(encoded)), segments)
    segment = np.concatenate([np.arange(count) for count in segments])
    positions = (document, segment, segments[document])
    manifest = model.manifest
    columns = schema(fields, manifest.vocabularies, manifest.names)
    rows: Columns = {
        **columns_of(_with_wide_indices(columns, fields), cells),
        **dict(zip(SEGMENT_COLUMNS, positions, strict=True)),
    }
    yield from buckets(rows, model.config.stream.token_budget)


def outputs_of_one_text(model: TrainedModel, encoded: Iterable[EncodedExample]) -> Outputs:
    """Yield the outputs of a stateful task; the tokens of all rows are one text, in memory."""
    rows = [np.asarray(cells[0], np.int64) for result in encoded for cells in result.rows]
    if not rows:
        return
    settings = model.config.stream.model_copy(update={"batch_rows": 1})
    assert isinstance(model.config.model, EncoderSettings), "a stateful task without an encoder"
    reverse = reversed_directions(model.config.model)
    source = InMemoryTokens("--input", np.concatenate(rows))
    stream = BpttStream(source, settings, 0, reverse=reverse)
    batches = (batch for update in stream.epoch(Position()) for batch in update.batches)
    yield from document_outputs(model.task, model.module, batches, model.precision, model.world)


def _with_wide_indices(columns: pa.Schema, fields: Sequence[FieldSpec]) -> pa.Schema:
    """Return the schema of encoded rows in memory.

    Lists of label indices are wider than in shards, because unknown labels have indices too.
    """
    for position, field in enumerate(fields):
        if field.kind_class.has_names and pa.types.is_list(columns.field(position).type):
            wide: Any = pa.list_(pa.int64())
            columns = columns.set(position, pa.field(field.name, wide))
    return columns
