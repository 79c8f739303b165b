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
    NOT_JSON = "not_json"
    BAD_QUOTES = "bad_quotes"
    BAD_LINE_END = "bad_line_end"
    LONG_FIELD = "long_field"
    HEADER = "header"
    DAMAGED = "damaged"
    NO_TOKENS = "no_tokens"
    TOO_LONG = "too_long"
    NO_WORDS = "no_words"
    NO_TAGS = "no_tags"
    MISALIGNED = "misaligned"
    NOT_BIO = "not_bio"
    STRAY_TAG = "stray_tag"
    LONG_SENTENCE = "long_sentence"
    NO_FILE = "no_file"
    NO_IMAGE = "no_image"
    NO_TARGET = "no_target"
    TARGET_TOO_LONG = "target_too_long"
    NO_FEATURES = "no_features"
    BAD_LIST = "bad_list"
    NOT_BINARY = "not_binary"
    VECTOR = "vector"
    NO_GROUP = "no_group"
    NO_TIME = "no_time"
    BAD_WEIGHT = "bad_weight"


SKIP_DESCRIPTIONS = {
    SkipReason.NO_TEXT: "no text (empty, blank, or a list or map)",
    SkipReason.NOT_UTF8: "bytes that are not text in corpus.encoding (set the encoding of the "
    "file, such as cp1252)",
    SkipReason.NUL: "a NUL character",
    SkipReason.NO_LABEL: "no label",
    SkipReason.NO_NUMBER: "a label that is not a finite number",
    SkipReason.WRONG_FIELDS: "more or fewer fields than columns",
    SkipReason.NOT_JSON: "a line that is not a JSON object",
    SkipReason.BAD_QUOTES: "a quote that is not closed, or that is closed inside a field (double "
    "each quote inside a quoted field, or set corpus.quoting=false)",
    SkipReason.BAD_LINE_END: "a carriage return outside quotes (save the file with LF or CRLF)",
    SkipReason.LONG_FIELD: "a field of more than 67,108,864 characters",
    SkipReason.HEADER: "the header again",
    SkipReason.DAMAGED: "damaged data (download the file again)",
    SkipReason.NO_TOKENS: "no token left after tokenization",
    SkipReason.TOO_LONG: "more than corpus.max_tokens tokens (corpus.overflow=drop)",
    SkipReason.NO_WORDS: "no words (not a list of words, or one with a blank word)",
    SkipReason.NO_TAGS: "no tags (not a list of names)",
    SkipReason.MISALIGNED: "more or fewer tags than words",
    SkipReason.NOT_BIO: "tags in an order that their scheme does not allow, such as an I- without "
    "an entity to continue in BIO",
    SkipReason.STRAY_TAG: "a tag outside the scheme of the others (fix it; or list all tags in "
    "corpus.label_names, and they are plain names)",
    SkipReason.LONG_SENTENCE: "a sentence of more than 5,000 words (put a blank line after each "
    "sentence, or raise corpus.max_tokens)",
    SkipReason.NO_FILE: "the path of a missing file (paths start from corpus.root and "
    "corpus.image_root, and must not lead out of corpus.root)",
    SkipReason.NO_IMAGE: "no image that can be read (a PNG or JPEG, or the path of one)",
    SkipReason.NO_FEATURES: "no features that can be read (a .npy array of finite numbers, a list "
    "for each region of the image, or the path of one)",
    SkipReason.NO_TARGET: "no target (empty, blank, or a list or map)",
    SkipReason.TARGET_TOO_LONG: "a target of more than corpus.max_target_tokens tokens",
    SkipReason.BAD_LIST: "a list as text that cannot be read (write it as JSON, such as "
    """["a", "b"])""",
    SkipReason.NOT_BINARY: "a map, vector or columns of labels with a value that is missing or "
    "not 0 or 1 (write 1, true, 0 or false for each label)",
    SkipReason.VECTOR: "a list of 0 and 1 that does not show its labels (give a name for each "
    "position, in corpus.label_names, or write a map such as {toxic: 1, insult: 0})",
    SkipReason.NO_GROUP: "no value in the column corpus.group",
    SkipReason.NO_TIME: "no number or date in the column corpus.time (for dates that are not "
    "written like 2024-05-31, set corpus.time_format)",
    SkipReason.BAD_WEIGHT: "a weight in the column corpus.weight that is missing, negative or not "
    "a number",
}
"""Noun phrases for error messages and reports, as in "3 rows with <description>". A row that does
not match corpus.filters has no description because it is left out on request."""

SKIPPED_BY_REQUEST = (SkipReason.FILTERED, SkipReason.TOO_LONG, SkipReason.TARGET_TOO_LONG)
"""Reasons that settings ask for. They do not count towards `max_skipped_ratio`."""


@dataclass
class Tally:
    """Number of rows with a skip reason or a label, and the first of these rows."""

    count: int
    place: str
    """Where the first row is: its file and line."""
    value: str = ""
    """Value of the first row, if it helps to find the cause."""


def count_skip(
    skips: dict[SkipReason, Tally], reason: SkipReason, place: str, value: str = ""
) -> None:
    """Count a skipped row; the first one of each reason is kept with its place and value."""
    skips.setdefault(reason, Tally(0, place, value)).count += 1


def bad_row_error(place: str, reason: SkipReason, detail: str) -> str:
    """Return the error for an unusable row with `corpus.on_bad_row=stop`."""
    details = f" ({detail})" if detail else ""
    return (
        f"{place}: a row with {SKIP_DESCRIPTIONS[reason]}{details}; fix or remove it, or set "
        "corpus.on_bad_row=skip to leave such rows out"
    )
