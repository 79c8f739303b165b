"""Evaluation of a trained model on labeled files."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.errors import InputError, TrainingError
from pipeline.evaluation.by_value import ValuedDocuments, evaluate_by_value
from pipeline.evaluation.evaluate import evaluate
from pipeline.inference.batching import batched
from pipeline.inference.counts import SkipCounts, UnknownLabels
from pipeline.inference.labeled_rows import labeled_rows
from pipeline.inference.outputs import (
    outputs,
    outputs_of_one_text,
    row_pipeline,
)
from pipeline.inference.run_input import RunInput
from pipeline.inference.trained import TrainedModel
from pipeline.runtime.device import memory_errors

logger = logging.getLogger(__name__)


@memory_errors()
def evaluate_files(
    model: TrainedModel,
    files: str | Sequence[str],
    *,
    refuse_unknown: bool = False,
    by: str = "",
) -> tuple[dict[str, Any], SkipCounts]:
    """Return the metrics over all labeled rows, and the number of skipped rows by reason.

    With a column `by`, the entry `by` maps each value of the column to the metrics over its rows;
    the value with the most rows is first.

    `files` are inputs as `RunInput` describes them. Duplicate rows are not removed. The result has
    the signature of each metric that has one and, for tasks with labels or tags, the number of
    labels that are unknown to the run (`unknown_labels`), which count as wrong. Raises InputError
    if no row can be used, if a row cannot be used and `corpus.on_bad_row` is "stop", or if a label
    is unknown and `refuse_unknown` is true or the task cannot count it. Raises TrainingError for
    `by` with a stateful task.
    """
    task, config = model.task, model.config
    if by and task.stateful:
        raise TrainingError(
            f"--by {by}: task.name={config.task.name} reads all rows as one text, so it has no "
            "metrics by row; remove the option"
        )
    metrics = task.make_metrics(config.task)
    fields = task.fields(config.corpus)
    has_names = any(field.kind_class.has_names for field in fields)
    open_names = has_names and task.counts_unknown_labels and not refuse_unknown
    pipeline = row_pipeline(model, fields, open_names=open_names)
    task.unknown_names = pipeline.unknown_names
    skips = SkipCounts(stop=config.corpus.on_bad_row == "stop")
    unknown = UnknownLabels()
    given = [files] if isinstance(files, str) else files
    columns = list(dict.fromkeys([*pipeline.checker.columns, *filter(None, [by])]))
    run_input = RunInput(config.corpus, given, columns, model.reads_images)
    read = partial(labeled_rows, run_input, pipeline, skips, by)

    def chunks() -> Iterator[tuple[list[EncodedExample], list[str]]]:
        for chunk in batched(read(), model.chunk_rows):
            encoded = pipeline.encode([item.example for item in chunk])
            for item, result in zip(chunk, encoded, strict=True):
                if result.skip:
                    skips.add(result.skip, item.place)
                elif names := pipeline.unknown_names_of(item.example):
                    unknown.add(names, item.place)
            yield encoded, [item.value for item in chunk]

    documents: Iterable[Any]
    if task.stateful:
        texts = chain.from_iterable(encoded for encoded, _ in chunks())
        documents = ((*pair, [""]) for pair in outputs_of_one_text(model, texts))
    else:
        documents = (
            (found, batch, [values[row] for row in batch.columns[DOCUMENT].tolist()])
            for encoded, values in chunks()
            for found, batch in outputs(model, fields, encoded)
        )
    documents = _check_not_empty(documents, run_input.name, skips)
    if by:
        evaluation, by_value = evaluate_by_value(task, documents, model.world, metrics)
    else:
        pairs = ((found, batch) for found, batch, _ in documents)
        evaluation, _ = evaluate(task, pairs, model.world, metrics)
    values: dict[str, Any] = dict(evaluation.metrics)
    if by:
        values["by"] = {value: dict(found.metrics) for value, found in by_value.items()}
    values |= {f"{name}_signature": s for name, s in evaluation.signatures.items()}
    if has_names:
        values["unknown_labels"] = unknown.names.total()
    if unknown.rows:
        logger.warning(unknown.describe())
    return values, skips


def _check_not_empty(documents: ValuedDocuments, name: str, skips: SkipCounts) -> ValuedDocuments:
    """Yield the documents. Raises InputError if there are none."""
    first = None
    for first in documents:
        yield first
    if first is None:
        reason = "; ".join(skips.describe()) or "it has no rows"
        raise InputError(
            f"{name}: no row is left to evaluate ({reason}); give a file with usable rows"
        )
