"""Tag schemes: find the scheme of a corpus, and convert its tags to BIO or BIOES.

The scheme cannot be determined from a single row: `I-X O` is valid in IOB1 and an error in BIO. So
the valid rows are counted for all schemes, and `decide` compares the counts of the whole corpus:

1. The tags mark entities if 90 % of the tags other than O have a prefix (B-X or a bare B). It is
   also enough if some label has B- and another prefix, and a tenth of the rows with tags other than
   O have a tag such as B-X. Other tags, such as parts of speech, are plain names: any row is valid.
2. The scheme is the one with the most valid rows; of several, the first in SCHEMES. For this count,
   IOB1 allows B-X only after a tag of X. Once IOB1 is chosen, B-X may begin any entity, because
   that is its only possible meaning.
3. A file has its own scheme if at least 10 of its rows and more than half of its rows with entities
   are not valid in the scheme of the corpus, and more of them are valid in its own.
4. Rows that are not valid are skipped: rows with a stray tag, whose prefix the scheme lacks, and
   rows with tags in an order that the scheme does not allow.

IOB1 is converted to BIO (IOB2); BILOU, BMES and BMEWO are converted to BIOES (IOBES). If
`corpus.label_names` is set, these names decide whether tags mark entities, and which tags they are
converted to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from re import DOTALL
from re import compile as compile_regex
from typing import NamedTuple

from pipeline.corpus.skip_reason import SkipReason, Tally, count_skip

SCHEMES: dict[str, dict[str, str]] = {
    "bio": {"B": "B", "I": "I"},
    "bioes": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "iob1": {"B": "B", "I": "I"},
    "bilou": {"B": "B", "I": "I", "L": "E", "U": "S"},
    "bmes": {"B": "B", "M": "I", "E": "E", "S": "S"},
    "bmewo": {"B": "B", "M": "I", "E": "E", "W": "S"},
}
"""The prefixes of each scheme, each with the prefix of the same meaning in BIOES."""
BITS = {scheme: 1 << number for number, scheme in enumerate(SCHEMES)}
"""Bit of each scheme in the result of `TagCounts.add`."""
TITLES = {
    "bio": "BIO", "bioes": "BIOES", "iob1": "IOB1", "bilou": "BILOU", "bmes": "BMES",
    "bmewo": "BMEWO",
}  # fmt: skip
TO_BIO = {"B": "B", "I": "I", "E": "I", "S": "B"}
MIN_PREFIXED = 0.9
"""Share of the tags other than O that must have a prefix, unless a label has several prefixes."""
MIN_ENTITY_ROWS = 0.1
"""Share of the rows with tags other than O that must have a tag such as B-X."""
MIN_ROWS_OF_OWN_SCHEME = 10
"""Rows of a file that must contradict the corpus's scheme before the file has its own."""

Row = list[str]


class Flaw(NamedTuple):
    """Reason why a row is not valid in a scheme."""

    reason: SkipReason
    position: int
    """Position of the tag, from 0."""
    text: str

    def place(self, lines: Sequence[int] | None) -> str:
        """Return the flaw with its line, or its token if `lines` is None."""
        if lines:
            return f"{self.text}, line {lines[self.position]}"
        return f"{self.text}, token {self.position + 1}"


@dataclass(frozen=True)
class TagReading:
    """The scheme of some tags, and the scheme that they are converted to."""

    scheme: str = ""
    """A key of SCHEMES; empty if tags are plain names."""
    target: str = ""
    """bio or bioes."""

    def read(self, tags: Row) -> Row | Flaw:
        """Return the tags in the target scheme, or the reason why they are not valid."""
        if not self.scheme:
            return tags
        found = _as_bioes(tags, self.scheme)
        if isinstance(found, Flaw):
            return found
        if self.scheme == self.target:
            return tags
        return found if self.target == "bioes" else [bio_name(tag) for tag in found]

    def describe(self) -> str:
        """Return a description such as "IOB1, converted to BIO"."""
        converted = f", converted to {TITLES[self.target]}" if self.scheme != self.target else ""
        return TITLES[self.scheme] + converted if self.scheme else "none"


@dataclass
class TagCounts:
    """Counts of the tags and the valid rows of some rows, for each scheme."""

    rows: int = 0
    entity_rows: int = 0
    """Rows with a tag such as B-X."""
    plain_rows: int = 0
    """Other rows with a tag that is not O."""
    tags: dict[str, int] = field(default_factory=dict)
    """Each tag of the input with its number of tokens."""
    valid: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCHEMES, 0))
    """Number of valid rows in each scheme; for IOB1, by the strict rule."""
    names: dict[str, dict[str, Tally]] = field(default_factory=lambda: {s: {} for s in SCHEMES})
    """For each scheme, the tags of its valid rows, converted to BIOES."""
    skips: dict[str, dict[SkipReason, Tally]] = field(
        default_factory=lambda: {s: {} for s in SCHEMES}
    )
    """For each scheme, the rows that are not valid in it, by reason."""

    def add(self, tags: Row, place: str) -> int:
        """Count the row at a place, and return the bits of the schemes in which it is valid."""
        parts = [split_tag(tag) for tag in tags]
        self.rows += 1
        for tag in tags:
            self.tags[tag] = self.tags.get(tag, 0) + 1
        if any(prefix and label for prefix, label in parts):
            self.entity_rows += 1
        elif any(prefix != "O" for prefix, _ in parts):
            self.plain_rows += 1
        bits = 0
        for scheme in SCHEMES:
            found = _as_bioes(tags, scheme)
            if isinstance(found, Flaw):
                skips = self.skips[scheme]
                known = found.reason in skips
                detail = "" if known else found.place(getattr(tags, "lines", None))
                count_skip(skips, found.reason, place, detail)
                continue
            bits |= BITS[scheme]
            self.valid[scheme] += scheme != "iob1" or _is_strict_iob1(tags)
            names = self.names[scheme]
            for name in found:
                names.setdefault(name, Tally(0, place)).count += 1
        return bits

    def names_as(self, reading: TagReading) -> dict[str, Tally]:
        """Return the tallies of the converted tags."""
        names = self.names[reading.scheme]
        if reading.target == "bioes":
            return names
        merged: dict[str, Tally] = {}
        for name, tally in names.items():
            merged.setdefault(bio_name(name), replace(tally, count=0)).count += tally.count
        return merged


def decide(files: Sequence[TagCounts], label_names: Sequence[str] = ()) -> list[TagReading]:
    """Return the reading of the tags of each file of a corpus (see the top of this module)."""
    names_scheme = scheme_of_names(label_names)
    is_plain = not names_scheme if label_names else not _marks_entities(files)
    if is_plain:
        return [TagReading()] * len(files)
    common = _best(files)
    target = _target(names_scheme or common)
    readings = []
    for counts in files:
        invalid = sum(tally.count for tally in counts.skips[common].values())
        own = _best([counts])
        has_own = (
            invalid >= MIN_ROWS_OF_OWN_SCHEME
            and 2 * invalid > counts.entity_rows + counts.plain_rows
            and counts.valid[own] > counts.valid[common]
        )
        readings.append(TagReading(own if has_own else common, target))
    return readings


def scheme_of_names(names: Iterable[str]) -> str:
    """Return the first scheme with all prefixes of some tag names; empty if there is none."""
    prefixes = {split_tag(name)[0] for name in names} - {"O"}
    if not prefixes:
        return ""
    return next((s for s, known in SCHEMES.items() if prefixes <= known.keys()), "")


def canonical_names(names: Sequence[str]) -> list[str]:
    """Return tag names with the prefixes of BIO or BIOES."""
    scheme = scheme_of_names(names)
    if not scheme:
        return list(names)
    pairs = [(name, split_tag(name)) for name in names]
    return [
        "O" if prefix == "O" else SCHEMES[scheme][prefix] + name[1:] for name, (prefix, _) in pairs
    ]


def bio_name(tag: str) -> str:
    """Return a BIOES tag with its prefix in BIO."""
    return tag if tag == "O" else TO_BIO[tag[0]] + tag[1:]


TAG = compile_regex(r"O|([BIESLUMW])(?:-(.+))?", DOTALL)


@lru_cache(1 << 16)
def split_tag(tag: str) -> tuple[str, str]:
    """Return the prefix and the label of a tag; the prefix of a stray tag is empty."""
    match = TAG.fullmatch(tag)
    if match is None:
        return "", ""
    return ("O", "") if tag == "O" else (match[1], match[2] or "")


def _as_bioes(tags: Row, scheme: str) -> Row | Flaw:
    """Return the tags of a scheme as BIOES tags, or the first flaw if they are not valid."""
    prefixes, has_ends = SCHEMES[scheme], scheme not in ("bio", "iob1")
    found: Row = []
    open_label: str | None = None  # of the entity that the next token may continue
    for position, tag in enumerate(tags):
        prefix, label = split_tag(tag)
        if prefix == "O":
            meaning = "O"
        elif prefix in prefixes:
            meaning = prefixes[prefix]
        else:
            return Flaw(SkipReason.STRAY_TAG, position, repr(tag))
        continues = meaning in "IE" and open_label == label
        if (meaning in "IE" and not continues and scheme != "iob1") or (
            has_ends and open_label is not None and not continues
        ):
            before = f"after {tags[position - 1]}" if position else "at the start"
            return Flaw(SkipReason.NOT_BIO, position, f"{tag} {before}")
        if not has_ends:
            if open_label is not None and not continues:
                _end_entity(found)
            meaning = "B" if meaning == "I" and not continues else meaning
        found.append(meaning + tag[1:])
        open_label = label if meaning in "BI" else None
    if open_label is not None:
        if has_ends:
            return Flaw(SkipReason.NOT_BIO, len(tags) - 1, f"{tags[-1]} at the end")
        _end_entity(found)
    return found


def _end_entity(tags: Row) -> None:
    """Mark the last tag as the end of its entity."""
    tags[-1] = ("S" if tags[-1][0] == "B" else "E") + tags[-1][1:]


def _is_strict_iob1(tags: Row) -> bool:
    """Return whether each B of a row follows a tag of the same label."""
    before = "", ""
    for tag in tags:
        prefix, label = split_tag(tag)
        if prefix == "B" and (before[0] not in ("B", "I") or before[1] != label):
            return False
        before = prefix, label
    return True


def _marks_entities(files: Sequence[TagCounts]) -> bool:
    """Return whether the tags of a corpus mark entities, instead of being plain names."""
    prefixed = others = 0
    prefixes_of: dict[str, set[str]] = {}
    for counts in files:
        for tag, tokens in counts.tags.items():
            prefix, label = split_tag(tag)
            if prefix == "O":
                continue
            prefixed, others = prefixed + tokens * bool(prefix), others + tokens * (not prefix)
            if label:
                prefixes_of.setdefault(label, set()).add(prefix)
    if not prefixed:
        return False
    if prefixed >= MIN_PREFIXED * (prefixed + others):
        return True
    entity_rows = sum(counts.entity_rows for counts in files)
    rows = entity_rows + sum(counts.plain_rows for counts in files)
    has_pair = any("B" in prefixes and len(prefixes) > 1 for prefixes in prefixes_of.values())
    return has_pair and entity_rows >= MIN_ENTITY_ROWS * rows


def _best(files: Sequence[TagCounts]) -> str:
    """Return the scheme in which most rows are valid."""
    totals: Mapping[str, int] = {s: sum(counts.valid[s] for counts in files) for s in SCHEMES}
    return max(SCHEMES, key=lambda scheme: totals[scheme])


def _target(scheme: str) -> str:
    return "bio" if scheme in ("bio", "iob1") else "bioes"
