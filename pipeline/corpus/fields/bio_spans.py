"""Entities in sequences of tags: the schemes BIO and BIOES, and F1 over entities.

A tag is O, or a prefix and a label: B-X begins an entity X, I-X goes on with it; in BIOES E-X is
its last token and S-X its only one. Without a label (B) the label is "_".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Scheme = Literal["", "bio", "bioes"]

TAG = re.compile(r"O|([BIES])(?:-(.+))?", re.DOTALL)
NO_LABEL = "_"


class Span(NamedTuple):
    """An entity: the tokens from `start` up to, not with, `stop`."""

    label: str
    start: int
    stop: int


@dataclass(frozen=True)
class Counts:
    """How many entities there are, how many were predicted, and how many of these are right: label
    and both ends."""

    true: int = 0
    predicted: int = 0
    correct: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.true + other.true,
            self.predicted + other.predicted,
            self.correct + other.correct,
        )

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        either = self.true + self.predicted
        return 2 * self.correct / either if either else 0.0


@dataclass(frozen=True)
class Scores:
    """Over all entities together, and the F1 of each label, sorted."""

    precision: float
    recall: float
    f1: float
    labels: dict[str, float] = field(default_factory=dict)


def scheme(names: Iterable[str]) -> Scheme:
    """The scheme of a set of tags, "" if it is none: then they are tags of single tokens."""
    matches = [TAG.fullmatch(name) for name in names]
    prefixes = {match and match[1] for match in matches}
    if None in matches or not prefixes - {None}:
        return ""
    return "bioes" if prefixes & {"E", "S"} else "bio"


def labels(names: Iterable[str]) -> list[str]:
    """The labels of entities in a set of tags, sorted."""
    return sorted({label for prefix, label in map(_parts, names) if prefix != "O"})


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities in any sequence of tags, valid or not, as conlleval and seqeval's default have
    them: a token goes on with the entity before if its tag is I or E, the tag before B or I, and
    both have one label; else I and E begin an entity as B does. So IOB1 is read rightly too.
    """
    found: list[Span] = []
    before, its_label = "O", ""
    for place, tag in enumerate(tags):
        prefix, label = _parts(tag)
        if prefix in "IE" and before in "BI" and label == its_label:
            found[-1] = found[-1]._replace(stop=place + 1)
        elif prefix != "O":
            found.append(Span(label, place, place + 1))
        before, its_label = prefix, label
    return found


def written(entities: Iterable[Span], tokens: int, scheme: Scheme) -> list[str]:
    """The valid tags of `tokens` tokens with these entities, none of which overlap."""
    tags = ["O"] * tokens
    for label, start, stop in entities:
        inside = ["I"] * (stop - start)
        inside[0] = "B"
        if scheme == "bioes":
            inside[-1] = "E" if stop - start > 1 else "S"
        ending = "" if label == NO_LABEL else f"-{label}"
        tags[start:stop] = [prefix + ending for prefix in inside]
    return tags


def check(tags: Sequence[str], scheme: Scheme) -> str:
    """What is wrong with a sequence of tags, such as "token 3: I-PER after O"; "" if nothing is."""
    pairs = zip([None, *tags], [*tags, None], strict=True)
    for number, (before, after) in enumerate(pairs, 1):
        if not _may_follow(before, after, scheme):
            if after is None:
                return f"token {number - 1}: {before} at the end"
            return f"token {number}: {after} " + (f"after {before}" if before else "at the start")
    return ""


def allowed(names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of C tags may follow which [C + 2, C + 2]: true at [i, j] where tag j may follow tag i.

    Row C stands for the start of a sequence and column C + 1 for its end; nothing leads to the
    start or out of the end. Of tags without a scheme each may follow each.
    """
    known, count = scheme(names), len(names)
    table = np.zeros((count + 2, count + 2), bool)
    for i, before in enumerate([*names, None]):
        for j, after in enumerate([*names, None]):
            if before is not None or after is not None:
                place = count + 1 if after is None else j
                table[i, place] = not known or _may_follow(before, after, known)
    return table


def count(rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, Counts]:
    """The counts of each label over rows, each its true tags and the predicted ones."""
    counts: dict[str, Counts] = {}
    for row in rows:
        true, predicted = (set(spans(tags)) for tags in row)
        for span in true | predicted:
            one = Counts(span in true, span in predicted, span in true and span in predicted)
            counts[span.label] = counts.get(span.label, Counts()) + one
    return counts


def f1(counts: Mapping[str, Counts]) -> Scores:
    """Precision, recall and F1 over the entities of all labels; what has no denominator is 0."""
    total = sum(counts.values(), Counts())
    each = {label: counts[label].f1 for label in sorted(counts)}
    return Scores(total.precision, total.recall, total.f1, each)


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and label. Raises ValueError if the tag is of no scheme."""
    match = TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"the tag {tag!r} is neither O nor B-X, I-X, E-X or S-X: it has no entity")
    return ("O", "") if tag == "O" else (match[1], match[2] or NO_LABEL)


def _may_follow(before: str | None, after: str | None, scheme: Scheme) -> bool:
    """None stands for the start before, and for the end after."""
    prefix, label = ("O", "") if before is None else _parts(before)
    next_prefix, next_label = ("O", "") if after is None else _parts(after)
    if next_prefix in "IE":
        return prefix in "BI" and label == next_label
    return scheme != "bioes" or prefix not in "BI"
