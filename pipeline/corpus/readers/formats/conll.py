"""CoNLL: sentences with one token per line, and blank lines between them."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pipeline import components
from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import MAX_LINE_BYTES, LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.row import Unreadable
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.token_column import TokenColumn
from pipeline.errors import InputError
from pipeline.settings import Conflict, Sections

BLANKS = " \t\r\n"  # other whitespace may be a token
NOT_BLANK = re.compile(r"[^ \t]+")
NEW_DOCUMENT = re.compile(r"[ \t]*-DOCSTART-|#(?:begin|end) document\b", re.IGNORECASE)
"""Start of a line between documents: in CoNLL-2003, and in CoNLL-2011 and 2012."""
COMMENT = re.compile(r"#+(?:[ \t]|$)")
SCHEME_TAG = re.compile(r"O|[BIESLUMW]-.+", re.DOTALL)
INDEX = re.compile(r"-?\d+")
CONLLU_FIELDS = 10
NOT_A_WORD = re.compile(r"\d+[-.]\d+\t")
"""Start of a line of CoNLL-U that is a multiword token or an empty node."""
HEAD_LINES = 2000
"""Number of lines at the start of a file from which the number of fields is determined."""
MIN_UNIFORM = 0.95
"""Share of the lines with tabs that must have the same number of fields after splitting at spaces,
too; if it is reached, spaces also separate fields."""
FIELD_CHECK_SENTENCES = 1000
"""One of this many first sentences must have the right number of fields on all lines."""
MAX_WORDS = 5000
"""Maximum number of words of a sentence, unless `corpus.max_tokens` is larger."""

NAMED = ", one for each name in corpus.columns"


class Sentence(NamedTuple):
    """The tokens between two blank lines. Those of a very long sentence are cut off."""

    fields: list[list[str]]
    """The fields of each token."""
    lines: list[int]
    """The line of each token."""
    last_line: int
    words: int


class Sentences(TextFormat):
    """Base class of formats whose rows are sentences. A column is a list of one field per token.

    A column may also be given by its index: 0 is the first, and -1 the last.
    """

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        used = components.with_used(components.load("task", config.task.name))
        if any(getattr(component, "is_image", False) for component in used):
            yield Conflict(
                "corpus.format",
                f"is a format of tagged words, but the task is {config.task.name}",
                "remove it",
            )

    def header(self, lines: LineReader) -> Sequence[str]:
        names = list(self.column_names(lines))
        self._width = len(names)
        self._index: dict[str, int] = {}
        for column in self.columns:
            if column in names:
                self._index[column] = names.index(column)
            elif INDEX.fullmatch(column) and -self._width <= int(column) < self._width:
                self._index[column] = int(column) % self._width
        for index, (column, other) in _repeated(self._index).items():
            raise InputError(
                f"{lines.name}: the columns {column!r} and {other!r} are the same, index {index} "
                f"of {self._width} columns; set two different columns"
            )
        return [*names, *(column for column in self._index if column not in names)]

    def mark_near(self, share: float) -> int | None:
        mark = super().mark_near(share)
        if mark is not None:
            while self.file.stream.readline(MAX_LINE_BYTES).strip():
                pass
            mark = self.file.stream.tell()
        return mark

    def records(self, lines: LineReader) -> Iterator[Record | Unreadable]:
        """Yield a dict from column to the fields of all tokens for each sentence.

        Raises InputError if each of the first sentences has a line with more or fewer fields than
        columns. This is not checked if the lines are read only up to `lines.stop`.
        """
        has_valid_sentence = lines.stop is not None
        sentences, wrong = 0, (0, 0)
        for sentence in self._sentences(lines):
            sentences += 1
            lines.record_line = sentence.lines[0]
            bad = [n for n, f in enumerate(sentence.fields) if len(f) != self._width][:1]
            if bad:
                lines.record_line, count = sentence.lines[bad[0]], len(sentence.fields[bad[0]])
                wrong = wrong if any(wrong) else (lines.record_line, count)
                if sentences == FIELD_CHECK_SENTENCES and not has_valid_sentence:
                    break
                yield Unreadable(SkipReason.WRONG_FIELDS, f"{count} instead of {self._width}")
                continue
            has_valid_sentence = True
            if sentence.words > len(sentence.fields):
                yield Unreadable(
                    SkipReason.LONG_SENTENCE,
                    f"{sentence.words:,} words without a blank line up to line "
                    f"{sentence.last_line}",
                )
            else:
                yield {
                    column: self.column_values(index, sentence)
                    for column, index in self._index.items()
                }
        if sentences and not has_valid_sentence:
            line, count = wrong
            raise InputError(f"{lines.name}: {self.field_count_error(self._width, line, count)}")

    def column_values(self, index: int, sentence: Sentence) -> Any:
        """Return the value of a column: the fields of all tokens, or None if they are missing."""
        return TokenColumn([fields[index] for fields in sentence.fields], sentence.lines)

    @abstractmethod
    def column_names(self, lines: LineReader) -> Sequence[str]:
        """Return the names of all columns of a file, given its first lines."""

    @abstractmethod
    def fields(self, line: str, *, is_first: bool) -> list[str] | None:
        """Return the fields of a line that is not blank; [] if it ends a sentence, None if it must
        be skipped. `is_first` is whether the sentence has no token yet."""

    @abstractmethod
    def field_count_error(self, width: int, line: int, count: int) -> str:
        """Return the error for a file without a valid sentence, given a line that has `count`
        fields instead of `width`."""

    def _sentences(self, lines: LineReader) -> Iterator[Sentence]:
        """Yield each sentence that has a token, as soon as the line that ends it is read."""
        limit = max(MAX_WORDS, self.settings.max_tokens)
        tokens: list[list[str]] = []
        numbers: list[int] = []
        words = last_line = 0
        for line in lines:
            fields: list[str] | None = []
            if line.strip(BLANKS):
                fields = self.fields(line.rstrip("\r\n"), is_first=not tokens)
            if fields:
                words, last_line = words + 1, lines.line_number
                if words <= limit:
                    tokens.append(fields)
                    numbers.append(last_line)
            elif tokens and fields is not None:
                yield Sentence(tokens, numbers, last_line, words)
                tokens, numbers, words = [], [], 0
        if tokens:
            yield Sentence(tokens, numbers, last_line, words)


class Conll(Sentences):
    """Fields separated by tabs or spaces; `corpus.columns` has the names of the columns.

    If splitting a line at tabs gives the wrong number of fields, it is split at tabs and spaces.
    Lines that begin with -DOCSTART- end a sentence. In files of ten fields, multiword tokens and
    empty nodes of CoNLL-U are skipped. Comments are skipped, too:

    - lines that begin with `# ` and have the wrong number of fields
    - lines that begin with `# `, begin a sentence, and whose last field is not a tag
    - lines such as `#doc3` that begin a sentence and have the wrong number of fields
    """

    suffixes = (".conll",)
    magic = (b"-DOCSTART-",)  # CoNLL-2003 has names such as eng.train and train.txt

    def column_names(self, lines: LineReader) -> Sequence[str]:
        names: Sequence[str] = self.settings.columns
        head = list(islice(lines, HEAD_LINES))
        lines.unread(head)
        texts = [line.rstrip("\r\n") for line in head if line.strip(BLANKS)]
        tokens = [t for t in texts if not COMMENT.match(t) and not NEW_DOCUMENT.match(t)]
        self.note = " (from corpus.columns, which must list all columns in order)"
        if not names:
            for column in self.columns:
                if not INDEX.fullmatch(column):
                    raise InputError(
                        f"{lines.name}: CoNLL files have no column names, so there is no "
                        f"column {column!r}; list all of them in order, such as "
                        "corpus.columns=[words,tags], or give their indices, such as corpus.text=0 "
                        "corpus.label=-1"
                    )
            names = [str(number) for number in range(_field_count(tokens))]
            self.note = " (columns are numbered from 0, and from -1 backwards)"
        self._count, self._has_names = len(names), bool(self.settings.columns)
        # A comment is recognized by the label column: it cannot have a valid tag by chance.
        label = getattr(self.settings, "label", "")
        self._label = names.index(label) if label in names else -1
        if label not in names and INDEX.fullmatch(label) and -len(names) <= int(label) < len(names):
            self._label = int(label)
        split = (self._split(text) for text in tokens)
        self._tags = {fields[self._label] for fields in split if len(fields) == self._count}
        return names

    def fields(self, line: str, *, is_first: bool) -> list[str] | None:
        if NEW_DOCUMENT.match(line):
            return []
        fields = self._split(line)
        is_wrong = len(fields) != self._count
        if COMMENT.match(line) and (
            is_wrong or (is_first and not self._is_tag(fields[self._label]))
        ):
            return None
        if is_wrong and is_first and line.startswith("#"):  # as in "#doc3"
            return None
        if self._count == CONLLU_FIELDS and NOT_A_WORD.match(line):
            return None
        return fields

    def field_count_error(self, width: int, line: int, count: int) -> str:
        return (
            f"has no sentence in which all lines have {width} fields{NAMED * self._has_names}; "
            f"line {line} has {count}; list every column of the file in corpus.columns, or remove "
            "it and give the indices of the columns, such as corpus.text=0 corpus.label=-1"
        )

    def _split(self, line: str) -> list[str]:
        """Split a line at tabs or, if the number of fields is then wrong, at tabs and spaces."""
        if "\t" in line:
            fields = [field.strip(" ") for field in line.split("\t")]
            if len(fields) == self._count:
                return fields
        return NOT_BLANK.findall(line)

    def _is_tag(self, text: str) -> bool:
        """Return whether a text can be a tag, judged by the first tags of the file."""
        if text in self._tags or SCHEME_TAG.fullmatch(text):
            return True
        return "O" not in self._tags and (text.isupper() or not any(map(str.isalnum, text)))


def _field_count(lines: Sequence[str]) -> int:
    """Return the number of fields that most lines have."""
    if not lines:
        return 0
    with_tab = [line for line in lines if "\t" in line]
    if 2 * len(with_tab) <= len(lines):
        return _most_frequent(lines)[0]
    by_tabs = Counter(line.count("\t") + 1 for line in with_tab).most_common(1)[0][0]
    by_blanks, share = _most_frequent(with_tab)
    return by_blanks if share >= MIN_UNIFORM else by_tabs


def _most_frequent(lines: Sequence[str]) -> tuple[int, float]:
    """Return the most frequent number of fields after splitting at spaces, and its share."""
    counts = Counter(len(NOT_BLANK.findall(line)) for line in lines)
    count, frequency = counts.most_common(1)[0]
    return count, frequency / len(lines)


def _repeated(index: dict[str, int]) -> dict[int, tuple[str, str]]:
    """Return each index that two columns have, with the names of these columns."""
    names: dict[int, list[str]] = {}
    for column, number in index.items():
        names.setdefault(number, []).append(column)
    return {number: (n[0], n[1]) for number, n in names.items() if len(n) > 1}
