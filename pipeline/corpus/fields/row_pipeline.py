"""The one path from a raw file to encoded rows: read, check, encode.

Preparing, training on unprepared shards and inference all use it, so they agree on every row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.fields.encoding import EncodedExample, ExampleEncoder
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.readers.opening import Reader, open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.tokenizer import TextEncoder

OnSkip = Callable[[SkipReason, Row], None]
"""Called with each skipped row; after encoding, the row's values are None."""


class RowPipeline:
    """Reads, checks and encodes the rows of a corpus."""

    def __init__(
        self,
        settings: CorpusSettings,
        fields: Sequence[FieldSpec],
        tokenizer_path: Callable[[str], Path],
        names: Mapping[str, Sequence[str]],
    ) -> None:
        """`tokenizer_path` gives the file of a vocabulary; `names` are keyed by field."""
        self.checker = RowChecker.of(settings, fields)
        self.encoders = {
            name: TextEncoder(
                tokenizer_path(name),
                settings.max_tokens,
                settings.truncation_side,
                settings.overflow,
            )
            for name in vocabularies(tuple(fields))
        }
        self._settings = settings
        self._encoder = ExampleEncoder(self.checker, self.encoders, names)

    def open(self, path: Path, file: str) -> AbstractContextManager[Reader]:
        """Open a raw file; errors call it `file`. Raises InputError."""
        return open_corpus_file(self._settings, path, self.checker.columns, file)

    def examples(
        self, rows: Iterable[Row], file: str, on_skip: OnSkip, *, check_names: bool = True
    ) -> Iterator[Example]:
        """Yield the usable rows of a file.

        `check_names` raises InputError for a label or tag that is not one of the known names.
        """
        for row in rows:
            example = self.checker.check(row, file)
            if isinstance(example, SkipReason):
                on_skip(example, row)
                continue
            if check_names:
                self._encoder.check_names(example.values, f"{file}:{row.number}")
            yield example

    def encode(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """Encode examples; an example without rows has the reason why."""
        return self._encoder.encode([example.values for example in examples])
