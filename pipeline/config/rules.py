"""Conflicts between settings: values that are valid alone but do not work together.

Here are the rules between sections; those of a component are in its own `conflicts`.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any

from pipeline import components, tasks
from pipeline.config.messages import as_yaml
from pipeline.config.schema import Config, section_values
from pipeline.corpus.fields.split_units import split_conflicts
from pipeline.models.settings import PretrainedSettings
from pipeline.settings import Conflict, is_default


def conflicts(config: Config) -> Iterator[str]:
    """Yield a line `<key>=<value>: <what is wrong>; <what to do>` for each conflict."""
    for key, problem, remedy in _all_conflicts(config):
        value = reduce(getattr, key.split("."), config)
        yield f"{key}={as_yaml(value)}: {problem}; {remedy}"


def _all_conflicts(config: Config) -> Iterator[Conflict]:
    own = [
        conflict
        for _, chosen in components.chosen(section_values(config))
        for component in components.with_used(chosen)
        if hasattr(component, "conflicts")
        for conflict in component.conflicts(config) or ()
    ]
    yield from own
    if not own:  # the fields of a task may depend on keys that its conflicts are about
        yield from column_conflicts(config)
    yield from batch_conflicts(config)
    yield from corpus_conflicts(config)
    yield from split_conflicts(config.corpus)
    yield from weight_conflicts(config)
    yield from stratify_conflicts(config)
    yield from training_conflicts(config)
    if config.stream.unprepared_rows:
        yield from unprepared_conflicts(config)


def batch_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts between the size of an update and its division into batches."""
    stream, max_tokens = config.stream, config.corpus.max_tokens
    batches = stream.accumulation_steps
    budget = stream.token_budget // batches
    if stream.batch_rows % batches:
        yield Conflict(
            "stream.batch_rows",
            f"is not a multiple of stream.accumulation_steps={batches}, the number of batches that "
            f"share the rows of an update",
            "set a multiple",
        )
    is_chosen = "token_budget" not in stream.model_fields_set  # later, by `size_defaults`
    if not stream.batch_rows and not is_chosen and budget < max_tokens:
        yield Conflict(
            "stream.token_budget",
            f"leaves {budget} tokens per batch with stream.accumulation_steps={batches}, fewer "
            f"than the longest row may have (corpus.max_tokens={max_tokens})",
            "raise stream.token_budget or lower corpus.max_tokens",
        )


def corpus_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts inside the corpus section."""
    corpus: Any = config.corpus
    overflow = getattr(corpus, "overflow", "truncate")
    if overflow != "truncate" and corpus.truncation_side != "start":
        yield Conflict(
            "corpus.truncation_side",
            f"applies only to truncated texts and would be ignored with corpus.overflow={overflow}",
            "set corpus.truncation_side=start or corpus.overflow=truncate",
        )
    if corpus.format and isinstance(corpus.input, dict):
        yield Conflict(
            "corpus.format",
            "corpus.input lists parallel files, whose format (idx, or text with one value per "
            "line) is detected",
            "remove it",
        )
    label_names = getattr(corpus, "label_names", [])
    if len(set(label_names)) < len(label_names):
        yield Conflict(
            "corpus.label_names", "has the same label more than once", "remove the duplicates"
        )
    if getattr(corpus, "label_base", 0) and not (label_names and isinstance(label_names, list)):
        yield Conflict(
            "corpus.label_base",
            "applies only if corpus.label_names is a list, and would be ignored",
            "remove it, or set corpus.label_names to a list",
        )


def column_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts of fields that are read from several columns."""
    corpus: Any = config.corpus
    has_lists = any(isinstance(getattr(corpus, key, ""), list) for key in ("text", "label"))
    for spec in tasks.fields(config.task.name, corpus) if has_lists else ():
        if isinstance(spec.column, tuple) and not spec.kind_class.combines:
            columns = list(spec.column)
            key = next(n for n in ("text", "label") if getattr(corpus, n, None) == columns)
            yield Conflict(
                f"corpus.{key}",
                f"task.name={config.task.name} reads only one column",
                "give one column, or for several labels per row set task.name=multilabel",
            )


def stratify_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield the conflict of stratified splits with a task without one label per row."""
    if config.corpus.stratify and not any(
        spec.kind_class.has_one_name for spec in tasks.fields(config.task.name, config.corpus)
    ):
        yield Conflict(
            "corpus.stratify",
            f"needs one label per row, which task.name={config.task.name} does not have",
            "remove it",
        )


def weight_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield the conflict of row weights with a task that reads all rows as one text."""
    if config.corpus.weight and tasks.get(config.task.name).stateful:
        yield Conflict(
            "corpus.weight",
            f"task.name={config.task.name} reads all rows as one text, so they have no weights",
            "remove it",
        )


def training_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with averaged weights and with settings that fine-tune layer by layer."""
    train, model, task = config.train, config.model, config.task.name
    if train.ema_decay and components.load("optimizer", train.optimizer).has_average:
        yield Conflict(
            "train.ema_decay",
            f"{train.optimizer} has an average of its own",
            "set 0, or another train.optimizer",
        )
    for name in ("layer_decay", "unfreeze"):
        if is_default(train, name):
            continue
        if not isinstance(model, PretrainedSettings):
            yield Conflict(
                f"train.{name}",
                f"applies only to models of one embedding and one encoder, but the task is {task}",
                "remove it",
            )
        elif model.cell == "grid_lstm":
            yield Conflict(
                f"train.{name}",
                "treats each layer differently, but layers of grid_lstm may share their weights",
                "remove it or change model.cell",
            )


def unprepared_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with training on input files that are not prepared."""
    if not tasks.get(config.task.name).streams_unprepared:
        yield Conflict(
            "stream.unprepared_rows",
            f"only text classification can train on unprepared rows, but the task is "
            f"{config.task.name}",
            "set stream.unprepared_rows=0",
        )
        return
    for key, problem, remedy in _unprepared_limits(config):
        yield Conflict(key, problem, f"{remedy}, or set stream.unprepared_rows=0 to prepare first")


def _unprepared_limits(config: Config) -> Iterator[Conflict]:
    corpus: Any = config.corpus
    stream = config.stream
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
    for key in ("test", "stratify", "group", "time", "weight"):
        if getattr(corpus, key):
            yield Conflict(f"corpus.{key}", "unprepared rows are read as they are", "remove it")
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
