"""Rules for the corpus and the stream."""

from collections.abc import Iterator

from pipeline.config.conflicts.rule import Conflict, input_column, input_key, tokens_per_batch
from pipeline.config.schema import Config
from pipeline.corpus.settings import LABELED_TASKS


def batch_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts between the size of an update and its division into batches."""
    stream, max_tokens = config.stream, config.corpus.max_tokens
    batches, budget = stream.accumulation_steps, tokens_per_batch(config)
    if stream.batch_rows % batches:
        yield Conflict(
            "stream.batch_rows",
            f"is not a multiple of stream.accumulation_steps={batches}, the number of batches that "
            f"share the rows of an update",
            "set a multiple",
        )
    if not stream.batch_rows and budget < max_tokens:
        yield Conflict(
            "stream.token_budget",
            f"leaves {budget} tokens per batch with stream.accumulation_steps={batches}, fewer "
            f"than the longest row may have (corpus.max_tokens={max_tokens})",
            "raise stream.token_budget or lower corpus.max_tokens",
        )


def corpus_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts inside the corpus section."""
    corpus = config.corpus
    if corpus.overflow != "truncate" and corpus.truncation_side != "start":
        yield Conflict(
            "corpus.truncation_side",
            f"applies only to truncated texts and would be ignored with "
            f"corpus.overflow={corpus.overflow}",
            "set corpus.truncation_side=start or corpus.overflow=truncate",
        )
    if config.task.name in LABELED_TASKS and corpus.label == input_column(config):
        yield Conflict(
            "corpus.label",
            f"is the same column as {input_key(config)}",
            "set the column that has the labels",
        )
    if corpus.format and isinstance(corpus.input, dict):
        yield Conflict(
            "corpus.format",
            "corpus.input lists parallel files, whose format (idx, or text with one value per "
            "line) is detected",
            "remove it",
        )
    if len(set(corpus.label_names)) < len(corpus.label_names):
        yield Conflict(
            "corpus.label_names", "has the same label more than once", "remove the duplicates"
        )


def unprepared_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with training on the input files without preparing them."""
    if config.task.name != "classification":
        yield Conflict(
            "stream.unprepared_rows",
            f"only text classification can train on unprepared rows, but the task is "
            f"{config.task.name}",
            "set stream.unprepared_rows=0",
        )
    for key, problem, remedy in _unprepared_limits(config):
        yield Conflict(key, problem, f"{remedy}, or set stream.unprepared_rows=0 to prepare first")


def _unprepared_limits(config: Config) -> Iterator[Conflict]:
    corpus, stream = config.corpus, config.stream
    if not corpus.tokenizer:
        yield Conflict(
            "corpus.tokenizer",
            "no tokenizer is trained on unprepared rows",
            "set the path of a tokenizer.json",
        )
    if not corpus.label_names:
        yield Conflict(
            "corpus.label_names",
            "labels are not collected from unprepared rows",
            "set the names of all labels",
        )
    if isinstance(corpus.validation, float):
        yield Conflict(
            "corpus.validation",
            "no fraction of unprepared rows is held out",
            "set a validation file",
        )
    for name in ("input", "validation"):
        if isinstance(getattr(corpus, name), dict):
            yield Conflict(
                f"corpus.{name}",
                "parallel files cannot be read without preparing",
                "set files that have all columns",
            )
    if corpus.overflow == "split":
        yield Conflict("corpus.overflow", "unprepared texts are not split", "set truncate or drop")
    if not stream.batch_rows:
        yield Conflict(
            "stream.batch_rows",
            "batches of unprepared rows are not planned by a token budget",
            "set the number of rows per update",
        )
    if stream.repeat != 1:
        yield Conflict(
            "stream.repeat",
            f"stream.unprepared_rows={stream.unprepared_rows} is the length of an epoch",
            "set 1",
        )
    if stream.mix:
        yield Conflict(
            "stream.mix", "only prepared datasets can be mixed", "add the files to corpus.input"
        )
