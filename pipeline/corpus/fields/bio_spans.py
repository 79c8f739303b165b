"""Entity spans in BIO and BIOES tag sequences.

A tag is O, or a prefix with an optional label. B-X begins an entity X and I-X continues it. In
BIOES, E-X is the last token of an entity, and S-X is an entity of one token. The label of a bare
prefix (B) is "_".
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Scheme = Literal["", "bio", "bioes"]

TAG = re.compile(r"O|([BIES])(?:-(.+))?", re.DOTALL)
NO_LABEL = "_"


class Span(NamedTuple):
    """An entity: the tokens [start, stop)."""

    label: str
    start: int
    stop: int


def scheme(names: Iterable[str]) -> Scheme:
    """Return the scheme of a tag set, or "" if its tags mark single tokens, not entities."""
    matches = [TAG.fullmatch(name) for name in names]
    prefixes = {match and match[1] for match in matches}
    if None in matches or not prefixes - {None}:
        return ""
    return "bioes" if prefixes & {"E", "S"} else "bio"


def labels(names: Iterable[str]) -> list[str]:
    """Return the sorted entity labels in a tag set."""
    return sorted({label for prefix, label in map(_parse, names) if prefix != "O"})


def spans(tags: Sequence[str]) -> list[Span]:
    """Extract the entities from any tag sequence, valid or not.

    Follows conlleval and seqeval's default mode: a tag I or E continues an entity if the previous
    tag is B or I with the same label; otherwise, it begins an entity like B. IOB1 sequences are
    therefore read correctly, too. Raises ValueError for a tag of neither scheme.
    """
    entities: list[Span] = []
    previous_prefix, previous_label = "O", ""
    for position, tag in enumerate(tags):
        prefix, label = _parse(tag)
        if prefix in "IE" and previous_prefix in "BI" and label == previous_label:
            entities[-1] = entities[-1]._replace(stop=position + 1)
        elif prefix != "O":
            entities.append(Span(label, position, position + 1))
        previous_prefix, previous_label = prefix, label
    return entities


def to_tags(entities: Iterable[Span], tokens: int, scheme: Scheme) -> list[str]:
    """Return the valid tags of `tokens` tokens with the given entities, which do not overlap."""
    tags = ["O"] * tokens
    for label, start, stop in entities:
        prefixes = ["I"] * (stop - start)
        prefixes[0] = "B"
        if scheme == "bioes":
            prefixes[-1] = "E" if stop - start > 1 else "S"
        suffix = "" if label == NO_LABEL else f"-{label}"
        tags[start:stop] = [prefix + suffix for prefix in prefixes]
    return tags


def check(tags: Sequence[str], scheme: Scheme) -> str:
    """Return the first error in a tag sequence, such as "token 3: I-PER after O", or ""."""
    pairs = zip([None, *tags], [*tags, None], strict=True)
    for number, (before, after) in enumerate(pairs, 1):
        if not _may_follow(before, after, scheme):
            if after is None:
                return f"token {number - 1}: {before} at the end"
            return f"token {number}: {after} " + (f"after {before}" if before else "at the start")
    return ""


def allowed(names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which of C tags may follow which [C + 2, C + 2]: [i, j] is true if j may follow i.

    Row C is the start of a sequence and column C + 1 its end; no transition leads to the start or
    out of the end. Tags without a scheme may follow each other in any order.
    """
    tag_scheme, count = scheme(names), len(names)
    table = np.zeros((count + 2, count + 2), bool)
    for i, before in enumerate([*names, None]):
        for j, after in enumerate([*names, None]):
            if before is not None or after is not None:
                column = count + 1 if after is None else j
                table[i, column] = not tag_scheme or _may_follow(before, after, tag_scheme)
    return table


def _parse(tag: str) -> tuple[str, str]:
    """Return a tag's prefix and label. Raises ValueError for a tag of neither scheme."""
    match = TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"the tag {tag!r} is neither O nor B-X, I-X, E-X or S-X")
    return ("O", "") if tag == "O" else (match[1], match[2] or NO_LABEL)


def _may_follow(before: str | None, after: str | None, scheme: Scheme) -> bool:
    """Return whether two tags may be adjacent. None is the start (before) or the end (after)."""
    prefix, label = ("O", "") if before is None else _parse(before)
    next_prefix, next_label = ("O", "") if after is None else _parse(after)
    if next_prefix in "IE":
        return prefix in "BI" and label == next_label
    return scheme != "bioes" or prefix not in "BI"
