"""fastText's format of labeled texts."""

import re
from collections.abc import Iterator

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.settings import CorpusSettings
from pipeline.settings import setting

BLANKS = " \t\n\v\f\r\0"
"""Characters that separate tokens, as in fastText; other whitespace belongs to a token."""


class FastText(TextFormat):
    """One text per line; each token that starts with `label_prefix` is a label, wherever it is.

    Columns: `text`, the other tokens; `label`, the label's name, a list of names if there are
    several, or None. Blank lines are left out.
    """

    class Settings(CorpusSettings):
        label_prefix: str = setting(
            "__label__", "start of the tokens that are labels in fastText files", min_length=1
        )

    suffixes = (".fasttext", ".ft")
    magic = (b"__label__",)  # many such files are named .txt
    names = ("text", "label")
    note = " (a fastText file has no other columns)"
    settings: Settings

    def records(self, lines: LineReader) -> Iterator[Record | None]:
        prefix = re.escape(self.settings.label_prefix)
        label = re.compile(f"(?<![^{BLANKS}]){prefix}([^{BLANKS}]*)[{BLANKS}]*")
        # A label that has the separator of several labels in it must not be divided.
        separator = getattr(self.settings, "label_separator", "\n")
        for line in lines:
            if not line.strip(BLANKS):
                continue
            labels = list(dict.fromkeys(label.findall(line)))
            is_single = len(labels) == 1 and separator not in labels[0]
            yield {
                "text": label.sub("", line).strip(BLANKS),
                "label": labels[0] if is_single else labels or None,
            }
