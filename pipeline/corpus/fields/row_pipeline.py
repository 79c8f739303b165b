"""The one path from a raw file to encoded rows: read, check, encode.

Preparation, training on unprepared shards and inference all use it, so they agree on every row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.corpus.field_spec import FieldSpec, vocabularies
from pipeline.corpus.fields.encoding import EncodedExample, ExampleEncoder
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.fields.tag_conversion import Checked, TagConverter
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings, TextSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.text_encoder import TextEncoder

OnSkip = Callable[[SkipReason, Row], None]
"""Called with each row that the check skips, and the reason. A row that encoding skips is
reported in its EncodedExample instead."""


class RowPipeline:
    """Reads, checks and encodes the rows of a corpus."""

    def __init__(
        self,
        settings: CorpusSettings,
        fields: Sequence[FieldSpec],
        tokenizer_path: Callable[[str], Path],
        names: Mapping[str, Sequence[str]],
        *,
        open_names: bool = False,
        splits: bool = False,
    ) -> None:
        """`tokenizer_path` maps a vocabulary's name to its tokenizer file; `names` has the known
        labels or tags of each field. `open_names` allows unknown ones, as in `ExampleEncoder`.
        `splits` skips rows without a split unit, as in `RowChecker`."""
        self.checker = RowChecker.of(settings, fields, splits=splits)
        limits: tuple[str, ...] = ()
        if isinstance(settings, TextSettings):
            limits = settings.truncation_side, settings.overflow
        self.text_encoders = {
            name: TextEncoder(tokenizer_path(name), settings.max_tokens, *limits)
            for name in vocabularies(tuple(fields))
        }
        self._settings = settings
        self._example_encoder = ExampleEncoder(
            self.checker, self.text_encoders, names, open_names=open_names
        )
        self._tag_converter = TagConverter(self.checker.fields, names)

    def open(self, path: Path, display_name: str) -> AbstractContextManager[Reader]:
        """Open the raw file at `path`; error messages name it `display_name`. Raises InputError."""
        return open_corpus_file(self._settings, path, self.checker.columns, display_name)

    def examples(
        self,
        rows: Iterable[Row],
        display_name: str,
        on_skip: OnSkip,
        *,
        check_names: bool = True,
    ) -> Iterator[Example]:
        """Yield the usable rows of a file. Error messages have `display_name` as its name.

        `check_names` raises InputError for an unknown label or tag; tags are converted to the
        scheme of the known names.
        """
        checked: Iterator[Checked] = ((row, self.checker.check(row, display_name)) for row in rows)
        if check_names:
            checked = self._tag_converter.convert(checked, display_name)
        for row, example in checked:
            if isinstance(example, SkipReason):
                on_skip(example, row)
                continue
            if check_names:
                self._example_encoder.check_names(example.values, row.place(display_name))
            yield example

    @property
    def unknown_names(self) -> dict[str, list[str]]:
        """The unknown names so far, by field, in the order of their indices."""
        return self._example_encoder.unknown_names

    def unknown_names_of(self, example: Example) -> list[str]:
        """Return an example's unknown names, including duplicates; needs `open_names`."""
        return self._example_encoder.unknown_names_of(example.values)

    def encode(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """Encode each example to its rows. A result without rows holds the SkipReason."""
        return self._example_encoder.encode([example.values for example in examples])
