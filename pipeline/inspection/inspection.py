"""Inspection of files: their columns, the task that fits, and the config that reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import components
from pipeline.corpus.readers.base import NoRowsError
from pipeline.errors import ConfigError, InputError
from pipeline.inspection import detection, problems, roles, sampling
from pipeline.inspection.column import Column, other_time_format
from pipeline.inspection.files import Files, find
from pipeline.inspection.form import Proposal
from pipeline.inspection.keys import Key, Keys
from pipeline.inspection.problems import Checked
from pipeline.inspection.table import Table

MAX_NAMED_LABELS = 30
"""Maximum number of labels with which `corpus.label_names` is proposed."""


@dataclass
class Inspection:
    """Result of inspecting files, from a sample of their rows."""

    files: Files
    table: Table
    proposal: Proposal
    keys: Keys
    """Keys of the section `corpus`, in the order of the config."""
    checked: Checked | None
    problems: list[str]
    hints: dict[str, Key] = field(default_factory=dict)
    """Optional keys that suit the data; the user decides whether to set them."""

    @property
    def used(self) -> list[Column]:
        """The columns that the proposed task reads."""
        names = problems.used_columns(self.proposal.fields)
        return [column for name in names if (column := self.table.find(name))]


def inspect(
    arguments: Sequence[str],
    *,
    task: str = "",
    text: Sequence[str] = (),
    label: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Inspection:
    """Inspect the files that the arguments of a command name.

    `task`, `text` and `label` are the user's choices. `given` has keys of the section `corpus` that
    set how files are read. Raises InputError or ConfigError, each with one line, for user errors.
    """
    given = dict(given or {})
    files = find(arguments)
    root = str(files.keys["root"].value) if "root" in files.keys else "data/"
    keys = files.keys | _reading_keys(files, given)
    reading = {n: k.value for n, k in keys.items() if n not in files.keys}
    chosen = sampling.spread(files.all)
    samples = [sampling.read(source, reading, 1 / len(chosen)) for source in chosen]
    if not any(row.values is not None for sample in samples for row in sample.rows):
        raise InputError(_unreadable(samples))
    table = Table.of(samples, root)
    table.choose(text, label)
    proposal = _proposal(table, task)
    keys |= proposal.keys
    checked, found = None, problems.different_columns(table)
    lines = [*files.notes, *found]
    if proposal.fields:
        checked = problems.check_rows(table, proposal, {n: k.value for n, k in keys.items()})
        lines = [*files.notes, *problems.find(table, proposal, checked)]
        keys |= _measured_keys(checked, proposal)
    _require_columns(table, proposal)
    hints = _hints(table, proposal, files) | (_label_hints(table, checked) if checked else {})
    return Inspection(files, table, proposal, keys, checked, lines, hints)


def _reading_keys(files: Files, given: Mapping[str, Any]) -> Keys:
    """Return the keys that set how the files are read. Raises InputError if the files differ."""
    keys: Keys = {name: Key(value, "given") for name, value in given.items()}
    if files.is_parallel:
        return keys
    first: Keys | None = None
    for source in sampling.spread(files.all):
        try:
            with sampling.local_path(source) as path:
                found = detection.detect(path, source.name, given)
        except NoRowsError:
            if len(files.all) == 1:
                raise
            files.drop(source)
            continue
        first = found if first is None else first
        for name in dict.fromkeys([*first, *found]):
            pair = [k[name].value if name in k else None for k in (first, found)]
            if pair[0] != pair[1] and name != "columns":
                shown = " and ".join("none" if v is None else repr(v) for v in pair)
                raise InputError(
                    f"{files.all[0].name} and {source.name}: need different values of "
                    f"corpus.{name} ({shown}), so they cannot be read together; convert one"
                )
    return keys | (first or {})


def _unreadable(samples: Sequence[sampling.Sample]) -> str:
    name = samples[0].source.name
    row = next((row for sample in samples for row in sample.rows), None)
    if row is None:
        return f"{name}: has no rows; remove it from the input"
    detail = f" ({row.detail})" if row.detail else ""
    return f"{row.place(name)}: no row can be read{detail}; correct the file, or set corpus.format"


def _proposal(table: Table, task: str) -> Proposal:
    """Return the best proposal of all forms, or of the forms of the chosen task."""
    forms = [components.load("form", name) for name in components.names("form")]
    if task and task not in (tasks := [form.task for form in forms]):
        raise ConfigError(f"--task={task}: no such task; use {', '.join(sorted(tasks))}")
    roles.labels(table)  # raises an error if the chosen column cannot be a label
    found = [form.propose(table) for form in forms if task in ("", form.task)]
    proposals = [proposal for proposal in found if proposal is not None]
    if not proposals:
        raise InputError(_no_fit(table, task))
    return max(proposals, key=lambda proposal: proposal.fit)


def _no_fit(table: Table, task: str) -> str:
    columns = ", ".join(f"{c.name} ({c.kind})" for c in list(table.columns.values())[:10])
    name = table.samples[0].source.name
    if task:
        return (
            f"--task={task}: does not fit {name}, whose columns are {columns}; name the columns "
            "with --text and --label, or choose another task"
        )
    return (
        f"{name}: no task fits its columns {columns}; name the text column with --text, and the "
        "label column with --label"
    )


def _require_columns(table: Table, proposal: Proposal) -> None:
    """Raise InputError if a file lacks a column that the proposal reads."""
    needed = problems.used_columns(proposal.fields)
    for sample in table.samples:
        top = {name for name in table.columns if name.partition(".")[0] in sample.columns}
        for column in needed:
            if column in table.columns and column not in top | set(sample.columns):
                raise InputError(
                    f"{sample.source.name}: has no column {column!r}, which the other files have; "
                    f"it has {', '.join(map(repr, sample.columns[:10]))}; rename its columns, or "
                    "leave out the file"
                )


def _measured_keys(checked: Checked, proposal: Proposal) -> Keys:
    """Return the keys that depend on the lengths of the rows and on the share of invalid rows."""
    keys: Keys = {}
    longer = sum(tokens > problems.DEFAULT_TOKENS for tokens in checked.tokens)
    if (
        longer > (1 - problems.COVERED) * len(checked.tokens)
        and proposal.task != "language_modeling"
    ):
        keys["max_tokens"] = Key(
            min(checked.max_tokens, 2000), f"{longer:,} of {len(checked.tokens):,} texts have more "
            f"than {problems.DEFAULT_TOKENS} tokens"
        )  # fmt: skip
    if checked.skipped > problems.DEFAULT_SKIPPED:
        share = min(round(checked.skipped + 0.05, 2), 1.0)
        keys["max_skipped_ratio"] = Key(share, f"{checked.skipped:.0%} of the rows cannot be used")
    return keys


def _hints(table: Table, proposal: Proposal, files: Files) -> dict[str, Key]:
    """Return optional keys for the columns that the task does not read."""
    used = set(problems.used_columns(proposal.fields))
    hints: dict[str, Key] = {}
    if files.held_out or not proposal.fields or proposal.task == "language_modeling":
        return hints
    for column in roles.groups(table, used)[:1]:
        why = f"rows with the same value ({column.distinct:,} in total) stay in one split"
        hints["group"] = Key(column.name, why)
    for column in roles.times(table, used)[:1]:
        hints["time"] = Key(column.name, "holds out the latest rows")
        if column.time_format:
            other = other_time_format(column)
            why = f"or {other}?: {column.example}" if other else f"needed for {column.example}"
            hints["time_format"] = Key(column.time_format, why)
    for column in roles.weights(table, used)[:1]:
        hints["weight"] = Key(column.name, "weight of each row in the loss")
    return hints


def _label_hints(table: Table, checked: Checked) -> dict[str, Key]:
    """Return `label_names` that merges spellings of the same label, if all labels are known."""
    spellings = dict(problems.similar_labels(checked.labels))
    if not spellings or not table.is_complete or len(checked.labels) > MAX_NAMED_LABELS:
        return {}
    names = {label: spellings.get(label, label) for label in sorted(checked.labels)}
    return {"label_names": Key(names, "merges spellings of the same label")}
