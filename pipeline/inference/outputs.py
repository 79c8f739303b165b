"""The outputs of a trained model for encoded rows in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import SEGMENT_COLUMNS, FieldSpec, column_types
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.inference.trained import TrainedModel
from pipeline.models.encoder import reversed_directions
from pipeline.models.settings import EncoderSettings
from pipeline.stream.batch import Batch
from pipeline.stream.bucket import CPU_COST, GPU_COST, buckets
from pipeline.stream.rows import Columns, columns_of

Outputs = Iterator[tuple[Tensor, Batch]]
"""A task's outputs for each batch, with the batch."""
OnBatch = Callable[[Batch], None]
CPU_TOKEN_BUDGET = 16_384
"""Maximum padded tokens of a batch on a CPU. Larger batches take more memory, but not less time."""
Compute = Callable[[nn.Module, Batch], Tensor]
"""Maps the module and a batch to values per row [B, F] or per token [B, T, F]."""


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
    model: TrainedModel,
    fields: Sequence[FieldSpec],
    encoded: Sequence[EncodedExample],
    compute: Compute | None = None,
    on_batch: OnBatch | None = None,
) -> Outputs:
    """Yield the task's outputs for examples; the `document` of a row is its example's index.

    `compute` replaces the task's outputs by other values, which are merged over the segments of a
    document in the same way. `on_batch` is called with each batch before the model reads it.
    """
    made = batches(model, fields, encoded)
    if on_batch:
        made = _observed(made, on_batch)
    yield from document_outputs(
        model.task, model.module, made, model.precision, model.world, compute
    )


def batches(
    model: TrainedModel, fields: Sequence[FieldSpec], encoded: Sequence[EncodedExample]
) -> Iterator[Batch]:
    """Yield the rows of examples in batches of similar length; the `document` of a row is its
    example's index."""
    cells = [row for result in encoded for row in result.rows]
    if not cells:
        return
    segments = np.array([len(result.rows) for result in encoded])
    document = np.repeat(np.arange(len(encoded)), segments)
    segment = np.concatenate([np.arange(count) for count in segments])
    positions = (document, segment, segments[document])
    rows: Columns = {
        **columns_of(_types_in_memory(fields, model.manifest), cells),
        **dict(zip(SEGMENT_COLUMNS, positions, strict=True)),
    }
    budget = model.config.stream.token_budget
    if model.device.type == "cuda":
        yield from buckets(rows, budget, GPU_COST)
    else:
        yield from buckets(rows, min(budget, CPU_TOKEN_BUDGET), CPU_COST)


def outputs_of_one_text(model: TrainedModel, encoded: Iterable[EncodedExample]) -> Outputs:
    """Yield the outputs of a stateful task; the tokens of all rows are one text, in memory."""
    from pipeline.stream.bptt import BpttStream, InMemoryTokens
    from pipeline.stream.plan import Position

    rows = [np.asarray(cells[0], np.int64) for result in encoded for cells in result.rows]
    if not rows:
        return
    settings = model.config.stream.model_copy(update={"batch_rows": 1})
    assert isinstance(model.config.model, EncoderSettings), "a stateful task has an encoder"
    reverse = reversed_directions(model.config.model)
    source = InMemoryTokens("--input", np.concatenate(rows))
    stream = BpttStream(source, settings, 0, reverse=reverse)
    made = (batch for update in stream.epoch(Position()) for batch in update.batches)
    yield from document_outputs(model.task, model.module, made, model.precision, model.world)


def _observed(batches: Iterable[Batch], on_batch: OnBatch) -> Iterator[Batch]:
    for batch in batches:
        on_batch(batch)
        yield batch


def _types_in_memory(fields: Sequence[FieldSpec], manifest: Manifest) -> dict[str, ColumnType]:
    """Return the types of the columns of encoded rows.

    Lists of label indices are wider than in shards, because unknown labels have indices too.
    """
    types = column_types(fields, manifest.vocabularies, manifest.names)
    for field in fields:
        if field.kind_class.has_names and types[field.name].is_list:
            types[field.name] = ColumnType("int64", is_list=True)
    return types
