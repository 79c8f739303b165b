"""CoNLL: sentences with one token per line, and blank lines between them."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from pipeline import components
from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.errors import InputError
from pipeline.settings import Conflict, Sections

NEW_DOCUMENT = "-DOCSTART-"
BLANKS = " \t\r\n"  # other white space may be a token
FIELD_CHECK_SENTENCES = 1000
"""One of this many first sentences must have the right number of fields on all lines."""
MAX_SENTENCE_TOKENS = 1 << 20

Sentence = list[list[str]]
"""The fields of each token."""


class Sentences(TextFormat):
    """A format of sentences, which are rows; a column is a list with a field of each token."""

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        used = components.with_used(components.load("task", config.task.name))
        if any(getattr(component, "is_image", False) for component in used):
            yield Conflict(
                "corpus.format",
                f"is a format of tagged words, but the task is {config.task.name}",
                "remove it",
            )

    def records(self, lines: LineReader) -> Iterator[Record | None]:
        """Yield a dict from column to the fields of all tokens for each sentence; None if one of
        its lines has more or fewer fields than there are columns.

        Raises InputError if this is so for all of the first sentences. This is not checked if the
        lines are read only up to `lines.stop`.
        """
        names = self.available
        indices = [(column, names.index(column)) for column in self.columns]
        has_valid_sentence = lines.stop is not None
        sentences = 0
        for sentence in self._sentences(lines):
            sentences += 1
            if all(len(fields) == len(names) for fields in sentence):
                has_valid_sentence = True
                yield {column: [fields[index] for fields in sentence] for column, index in indices}
                continue
            if sentences == FIELD_CHECK_SENTENCES and not has_valid_sentence:
                raise InputError(self._field_count_message(lines, names, sentence))
            yield None
        if sentences and not has_valid_sentence:
            raise InputError(self._field_count_message(lines, names, sentence))

    @abstractmethod
    def fields(self, line: str) -> list[str] | None:
        """Return the fields of a line that is not blank; [] if it ends a sentence, None if it is
        to be skipped."""

    @abstractmethod
    def field_count_error(self, names: Sequence[str], line: int, count: int) -> str:
        """Return the error of a file without a valid sentence, for a line before `line` that has
        `count` fields."""

    def _sentences(self, lines: LineReader) -> Iterator[Sentence]:
        """Yield each sentence that has a token, as soon as the line that ends it is read."""
        sentence: Sentence = []
        for line in lines:
            fields = self.fields(line.rstrip("\r\n")) if line.strip(BLANKS) else []
            if fields:
                sentence.append(fields)
                if len(sentence) > MAX_SENTENCE_TOKENS:
                    raise InputError(
                        f"{lines.name}, line {lines.line_number}: there is no blank line in the "
                        f"{MAX_SENTENCE_TOKENS} lines before it; put one after each sentence"
                    )
            elif sentence and fields is not None:
                yield sentence
                sentence = []
        if sentence:
            yield sentence

    def _field_count_message(
        self, lines: LineReader, names: Sequence[str], sentence: Sentence
    ) -> str:
        count = next(len(fields) for fields in sentence if len(fields) != len(names))
        return f"{lines.name}: {self.field_count_error(names, lines.line_number, count)}"


class Conll(Sentences):
    """Fields separated by tabs, or else by spaces; `corpus.columns` names them."""

    suffixes = (".conll",)
    note = " (from corpus.columns, which must list all columns in order)"

    def header(self, lines: LineReader) -> Sequence[str]:
        if not self.settings.columns:
            raise InputError(
                f"{lines.name}: CoNLL files do not name their columns; list all of them in order, "
                "such as corpus.columns=[words,tags]"
            )
        names: list[str] = self.settings.columns
        return names

    def fields(self, line: str) -> list[str]:
        if line.startswith(NEW_DOCUMENT):
            return []
        if "\t" in line:
            return [field.strip(" ") for field in line.split("\t")]
        return [field for field in line.split(" ") if field]

    def field_count_error(self, names: Sequence[str], line: int, count: int) -> str:
        return (
            f"has no sentence in which all lines have {len(names)} fields, one for each name in "
            f"corpus.columns; a line before line {line} has {count}; name every column of the file"
        )
