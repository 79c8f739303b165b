"""Reasons to skip a row, and their counts."""

from dataclasses import dataclass
from enum import StrEnum


class SkipReason(StrEnum):
    """Why a row is not used as an example."""

    FILTERED = "filtered"
    NO_TEXT = "no_text"
    NOT_UTF8 = "not_utf8"
    NUL = "nul"
    NO_LABEL = "no_label"
    NO_NUMBER = "no_number"
    WRONG_FIELDS = "wrong_fields"
    NO_TOKENS = "no_tokens"
    TOO_LONG = "too_long"
    NO_WORDS = "no_words"
    NO_TAGS = "no_tags"
    MISALIGNED = "misaligned"
    NOT_BIO = "not_bio"
    NO_FILE = "no_file"
    NO_IMAGE = "no_image"
    NO_TARGET = "no_target"
    TARGET_TOO_LONG = "target_too_long"
    NO_FEATURES = "no_features"
    BAD_LIST = "bad_list"
    NOT_BINARY = "not_binary"
    VECTOR = "vector"


SKIP_DESCRIPTIONS = {
    SkipReason.NO_TEXT: "no text (empty, blank, or a list or map)",
    SkipReason.NOT_UTF8: "bytes that are not UTF-8",
    SkipReason.NUL: "a NUL character",
    SkipReason.NO_LABEL: "no label",
    SkipReason.NO_NUMBER: "a label that is not a finite number",
    SkipReason.WRONG_FIELDS: "more or fewer fields than the header",
    SkipReason.NO_TOKENS: "no token left after tokenization",
    SkipReason.TOO_LONG: "more than corpus.max_tokens tokens (corpus.overflow=drop)",
    SkipReason.NO_WORDS: "no words (not a list of words, or one with a blank word)",
    SkipReason.NO_TAGS: "no tags (not a list of names)",
    SkipReason.MISALIGNED: "more or fewer tags than words",
    SkipReason.NOT_BIO: "tags that are not BIO (an I- or E- without an entity to continue)",
    SkipReason.NO_FILE: "the path of a missing file (paths start from corpus.root and "
    "corpus.image_root, and must not lead out of corpus.root)",
    SkipReason.NO_IMAGE: "no image that can be read (a PNG or JPEG, or the path of one)",
    SkipReason.NO_FEATURES: "no features that can be read (a .npy array of finite numbers, a list "
    "for each region of the image, or the path of one)",
    SkipReason.NO_TARGET: "no target (empty, blank, or a list or map)",
    SkipReason.TARGET_TOO_LONG: "a target of more than corpus.max_target_tokens tokens",
    SkipReason.BAD_LIST: "a list as text that cannot be read (write it as JSON, such as "
    """["a", "b"])""",
    SkipReason.NOT_BINARY: "a map or columns of labels with a value that is missing or not 0 or "
    "1 (write 1, true, 0 or false for each label)",
    SkipReason.VECTOR: "a list of 0 and 1 that does not show its labels (give a name for each "
    "position, in corpus.label_names, or write a map such as {toxic: 1, insult: 0})",
}
"""Noun phrases for error messages and reports, as in "3 rows with <description>". A row that does
not match corpus.filters has no description because it is left out on request."""


@dataclass
class Tally:
    """Number of rows with a skip reason or a label, and the first of these rows."""

    count: int
    row: int
    value: str = ""
    """Value of the first row, if it helps to find the cause."""


def count_skip(
    skips: dict[SkipReason, Tally], reason: SkipReason, row: int, value: str = ""
) -> None:
    """Count a skipped row; the first one of each reason is kept with its number and value."""
    skips.setdefault(reason, Tally(0, row, value)).count += 1
