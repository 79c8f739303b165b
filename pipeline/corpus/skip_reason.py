"""The kinds of row that are skipped and counted."""

from dataclasses import dataclass
from enum import StrEnum


class SkipReason(StrEnum):
    """Why a row is not used."""

    FILTERED = "filtered"
    NO_TEXT = "no_text"
    NOT_UTF8 = "not_utf8"
    NUL = "nul"
    NO_LABEL = "no_label"
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


SKIP_DESCRIPTIONS = {
    SkipReason.NO_TEXT: "no text (empty, blank or not a string)",
    SkipReason.NOT_UTF8: "bytes that are not UTF-8",
    SkipReason.NUL: "a NUL character",
    SkipReason.NO_LABEL: "no label",
    SkipReason.WRONG_FIELDS: "more or fewer fields than the header",
    SkipReason.NO_TOKENS: "no token left of the text",
    SkipReason.TOO_LONG: "more than corpus.max_tokens tokens (corpus.overflow=drop)",
    SkipReason.NO_WORDS: "no words (not a list of strings, or a blank one in it)",
    SkipReason.NO_TAGS: "no tags (not a list of names)",
    SkipReason.MISALIGNED: "more or fewer tags than words",
    SkipReason.NOT_BIO: "tags that are not BIO (an I- or E- that goes on with nothing)",
    SkipReason.NO_FILE: "the path of no file (it is taken from corpus.root and corpus.image_root on, and "
    "must not lead out of corpus.root)",
    SkipReason.NO_IMAGE: "no image that can be read (a PNG or JPEG, or the path of one)",
    SkipReason.NO_FEATURES: "no features that can be read (a .npy of finite numbers, for each region of "
    "the image a list, or the path of one)",
    SkipReason.NO_TARGET: "no target (empty, blank or not a string)",
    SkipReason.TARGET_TOO_LONG: "a target of more than corpus.max_target_tokens tokens",
}


@dataclass
class Tally:
    """How often something was met, and the row where it was met first."""

    count: int
    row: int
    value: str = ""
    """What stands there, where that says more."""


def count_skip(
    skips: dict[SkipReason, Tally], reason: SkipReason, row: int, value: str = ""
) -> None:
    """Count a skipped row; the first one of each reason is kept with its number and value."""
    skips.setdefault(reason, Tally(0, row, value)).count += 1
