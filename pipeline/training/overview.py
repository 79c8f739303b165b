"""The first screen of a run: about ten lines on its data, model and length, 80 columns wide.

Also warnings about a run that can hardly learn. All functions are pure.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.wording import quantity, shorten

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Space at which no line is wrapped, between a number and its unit."""
WIDTH = 80
INDENT = 10
"""Width of the titles, in columns."""
MAX_LISTED_LABELS = 4
"""Up to this number, all labels are listed; otherwise only the two largest and the smallest."""
MAX_NAME = 24
"""Maximum length of a label, in characters."""
FEW_UPDATES = 200
"""Minimum number of updates of a run without a warning."""
LARGE_SHARE = 0.95
"""Maximum share of rows with the same label without a warning."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of the rows of the training split, in tokens."""

    median: int
    percentile_95: int
    longest: int


@dataclass(frozen=True)
class Labels:
    """The labels that the task predicts, with the number of rows of each, if known."""

    key: str
    """The key that names the label column, with its value, such as corpus.label=queue."""
    names: Sequence[str]
    counts: Sequence[int] = ()
    kind: str = "label"
    """Kind of field: label (one per row), labels (any number per row) or tags (one per word)."""
    weighted: bool = False
    """Whether the loss has a weight for each label."""


@dataclass(frozen=True)
class Schedule:
    """Number of updates of a run, and the intervals between evaluations and checkpoints."""

    per_epoch: int
    epochs: int
    spanned_epochs: int
    """Epochs that the learning-rate schedule spans."""
    max_steps: int = 0
    exact: bool = True
    """Whether `per_epoch` is counted, not estimated."""
    warmup: float = 0.0
    """Warm-up, as a fraction of the learning-rate schedule."""
    evaluate_every: int = 0
    checkpoint_every: int = 200

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        updates = self.per_epoch * self.epochs
        return min(updates, self.max_steps) if self.max_steps else updates

    @property
    def warmup_updates(self) -> int:
        return round(self.warmup * self.per_epoch * self.spanned_epochs)

    @property
    def evaluations(self) -> int:
        """Number of evaluations: after each epoch, every `evaluate_every` updates, at the end."""
        every, total = self.evaluate_every, self.total
        at_epochs = {epoch * self.per_epoch for epoch in range(1, total // self.per_epoch + 1)}
        return len(at_epochs | set(range(every, total + 1, every) if every else ()) | {total})


@dataclass(frozen=True)
class Facts:
    """Facts that the first screen shows."""

    rows: int
    """Rows of an epoch."""
    tokens: int
    """Tokens of the training split; 0 if unknown."""
    token_unit: str
    """Unit of `tokens`, in the plural."""
    lengths: Lengths | None
    truncated: float
    """Share of the rows that were truncated."""
    max_tokens: int
    segments: str
    """Lanes and BPTT length of a language model; empty for other tasks."""
    splits: Mapping[str, int]
    """Rows of each split; empty if the input is not prepared."""
    origins: Mapping[str, str]
    """How each split except `train` was made."""
    shards: int
    """Number of unprepared files; 0 for a prepared dataset."""
    labels: Labels | None
    numbers: tuple[float, float] | None
    """Mean and standard deviation of the numbers to predict."""
    model: str
    parameters: int
    megabytes: float
    device: str
    """Number and name of the devices, precision, and kernels of the recurrent layers."""
    schedule: Schedule
    rate: str
    """Learning rate, schedule and optimizer."""
    chosen: Mapping[str, Any]
    """Keys that the user did not set, with the values that follow from the size of the corpus."""
    folder: str
    step: int = 0
    """Step that the run resumes from."""
    checkpoint: str = ""
    """Checkpoint that the run resumes from; empty for a new run."""
    budget: int = 0
    """`stream.token_budget`; 0 if `stream.batch_rows` is in use."""
    batch_rows: int = 0


def lines(facts: Facts) -> list[str]:
    """Return the first screen, at most 80 columns wide unless a path is longer."""
    screen: list[str] = []
    for title, text in _entries(facts):
        wrapped = textwrap.wrap(
            text,
            WIDTH,
            initial_indent=_title(title),
            subsequent_indent=_title(""),
            break_long_words=False,
            break_on_hyphens=False,
        )
        screen += [line.replace(NO_BREAK, " ") for line in wrapped]
    run = f"resuming from {facts.checkpoint}" if facts.checkpoint else facts.folder
    return [*screen, _title("run") + run]


def _title(text: str) -> str:
    return f"{text:<{INDENT}}"


def _entries(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.splits:
        per_epoch = "" if facts.rows == facts.splits["train"] else f"; {facts.rows:,} per epoch"
        splits = ", ".join(_split(facts, name) for name in facts.splits)
        yield "rows", splits + ("" if facts.segments else per_epoch)
    else:
        files = quantity(facts.shards, "unprepared file")
        yield "rows", f"{facts.rows:,} per epoch, from {files}; the total number is unknown"
    if facts.segments:
        yield "segments", facts.segments
    elif facts.lengths:
        yield "lengths", _lengths(facts, facts.lengths)
    if facts.labels:
        yield "labels", _labels(facts.labels)
    if facts.numbers:
        mean, deviation = facts.numbers
        yield "numbers", f"mean {mean:.4g}, standard deviation {deviation:.4g}"
    size = f"{facts.parameters:,} parameters, {_megabytes(facts.megabytes)}"
    yield "model", f"{facts.model}; {size}"
    yield "device", facts.device
    yield "updates", _updates(facts.schedule)
    yield "saving", _saving(facts.schedule)
    yield "rate", facts.rate
    if facts.chosen:
        yield "defaults", f"{chosen_values(facts.chosen)}: chosen for {_size(facts)}"
    if facts.checkpoint:
        yield "left", _left(facts)


def chosen_values(chosen: Mapping[str, Any]) -> str:
    """Format keys and values as overrides.

    >>> chosen_values({"train.lr": 0.003, "train.epochs": 12})
    'train.lr=0.003, train.epochs=12'
    """
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in chosen.items()
    )


def _size(facts: Facts) -> str:
    return f"{facts.tokens:,} {facts.token_unit}"


def _split(facts: Facts, name: str) -> str:
    notes = [_size(facts)] if name == "train" else []
    notes += [origin] if (origin := facts.origins.get(name)) else []
    return f"{name} {facts.splits[name]:,}" + (f" ({'; '.join(notes)})" if notes else "")


def _lengths(facts: Facts, lengths: Lengths) -> str:
    text = (
        f"{lengths.median:,} {facts.token_unit} (median), "
        f"{lengths.percentile_95:,} (95th percentile), {lengths.longest:,} (longest)"
    )
    if facts.truncated:
        text += f"; {facts.truncated:.1%} truncated at {facts.max_tokens:,}"
    return text


def _labels(labels: Labels) -> str:
    total = len(labels.names)
    if not labels.counts:
        return f"{total:,}; the number of rows per label is unknown"
    ordered = sorted(
        zip(labels.names, labels.counts, strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    shown = [f"{_label_name(name)} {number:,}" for name, number in ordered]
    if total <= MAX_LISTED_LABELS:
        return f"{total}: {', '.join(shown)}"
    return f"{total:,}: largest {', '.join(shown[:2])}; smallest {shown[-1]}"


def _label_name(name: str) -> str:
    """Return a label's name for a list with numbers, with quotes if it looks like a number."""
    shown = shorten(" ".join(name.split()), MAX_NAME)
    return f"'{shown}'" if shown[:1].isdigit() else shown


def _updates(schedule: Schedule) -> str:
    about = "" if schedule.exact else "about "
    limit = f", ended by train.max_steps={schedule.max_steps}" if schedule.max_steps else ""
    return (
        f"{about}{schedule.per_epoch:,} per epoch, {schedule.total:,} in total "
        f"({quantity(schedule.epochs, 'epoch')}{limit}), the first {schedule.warmup_updates:,} for "
        "warm-up"
    )


def _saving(schedule: Schedule) -> str:
    about = "" if schedule.exact else "about "
    return (
        f"a checkpoint after each of {about}{quantity(schedule.evaluations, 'evaluation')} "
        f"and every {quantity(schedule.checkpoint_every, 'update')}"
    )


def _left(facts: Facts) -> str:
    left = max(facts.schedule.total - facts.step, 0)
    about = "" if facts.schedule.exact else "about "
    return f"{about}{quantity(left, 'update')}; {facts.step:,} are done"


def _megabytes(megabytes: float) -> str:
    return (
        f"{megabytes:.1f}{NO_BREAK}MB"
        if megabytes >= 0.1
        else f"{1000 * megabytes:.1f}{NO_BREAK}kB"
    )


def warnings(facts: Facts) -> Iterator[str]:
    """Yield a warning for each reason why the run can hardly learn, with the key to change."""
    yield from _update_warnings(facts)
    if facts.labels:
        yield from _label_warnings(facts.labels)
    if facts.numbers and not facts.numbers[1]:
        yield (
            f"corpus.label: all rows have the number {facts.numbers[0]:g}, so there is nothing to "
            "learn; name another column"
        )


def _update_warnings(facts: Facts) -> Iterator[str]:
    schedule, total = facts.schedule, facts.schedule.total
    batch = (
        f"stream.token_budget={facts.budget}"
        if facts.budget
        else f"stream.batch_rows={facts.batch_rows}"
    )
    key = batch.partition("=")[0]
    if schedule.per_epoch == 1:
        yield f"{batch}: is larger than an epoch, so each epoch is only one update; lower {key}"
    if total < FEW_UPDATES:
        ended_early = schedule.max_steps and schedule.max_steps == total
        length = (
            f"train.max_steps={schedule.max_steps}"
            if ended_early
            else f"train.epochs={schedule.epochs}"
        )
        more = "" if ended_early else f", or lower {key}"
        yield (
            f"{length}: only {quantity(total, 'update')} to learn from (fewer than "
            f"{FEW_UPDATES}); raise {length.partition('=')[0]}{more}"
        )
    if schedule.warmup_updates > total:
        yield (
            f"train.warmup={schedule.warmup:g}: the warm-up of {schedule.warmup_updates:,} updates "
            f"is longer than the run of {total:,}, which never reaches train.lr; lower train.warmup"
        )


def _label_warnings(labels: Labels) -> Iterator[str]:
    if labels.kind == "labels":
        return  # a row may have none
    counts = dict(zip(labels.names, labels.counts, strict=False))
    present = [name for name in labels.names if counts.get(name, 1)]
    unit = "words" if labels.kind == "tags" else "rows"
    if len(present) == 1:
        yield (
            f"{labels.key}: all {unit} have the label {present[0]!r}, so there is nothing to "
            f"learn; name another column, or add {unit} with other labels"
        )
    elif labels.kind == "label" and (total := sum(labels.counts)):
        name = max(counts, key=counts.__getitem__)
        share = counts[name] / total
        if share > LARGE_SHARE:
            advice = "compare checkpoints by macro_f1 (train.best_metric=macro_f1)"
            if not labels.weighted:
                advice += ", and set task.class_weights=balanced"
            yield (
                f"{labels.key}: {share:.1%} of the rows have the label {name!r}, so a model that "
                f"always predicts it has this accuracy; {advice}"
            )
