"""Raw rows to examples: a checked value for each field, or the reason why a row is skipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import FieldKind, as_text
from pipeline.corpus.fields.label_names import label_key
from pipeline.corpus.fields.split_units import SplitUnits, Unit
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError


class Example(NamedTuple):
    """A usable row."""

    row: int
    """Number of the row in its file, from 1."""
    line: int
    """Number of the row's first line in its file, or 0."""
    file: str
    """Path of the row's own file in a folder of files, or an empty string."""
    values: tuple[Any, ...]
    """A checked value for each field, in the order of the fields."""
    identity: bytes
    """Bytes of the first value. Examples with equal bytes are in the same split."""
    whole_identity: bytes
    """Bytes of all inputs and targets. Examples with equal bytes are duplicates."""
    unit: Unit | None = None
    """The split unit, if a column determines it."""

    def place(self, file: str) -> str:
        """Return where the row is, for messages."""
        return Row(self.row, None, self.line, file=self.file).place(file)


@dataclass(frozen=True)
class RowChecker:
    """The fields of a corpus, and the filters that its rows must pass."""

    fields: tuple[FieldKind, ...]
    filters: dict[str, str]
    units: SplitUnits | None = None
    """How to find the unit of a row; None if no column determines it, or if it is not needed."""

    @classmethod
    def of(
        cls, settings: CorpusSettings, fields: Sequence[FieldSpec], *, splits: bool = False
    ) -> "RowChecker":
        """`splits` is whether the rows will be divided into splits."""
        units = SplitUnits(settings) if splits else None
        return cls(
            tuple(spec.kind_class(spec, settings) for spec in fields),
            settings.filters,
            units if units and units.column else None,
        )

    @cached_property
    def further(self) -> tuple[FieldSpec, ...]:
        """The targets, and the inputs from columns other than the first field's."""
        first = self.fields[0].field.column
        return tuple(
            kind.field
            for kind in self.fields
            if kind.is_target or (kind.is_input and kind.field.column != first)
        )

    @property
    def columns(self) -> list[str]:
        """Columns of the raw files that are read."""
        own = [column for kind in self.fields for column in kind.field.columns]
        units = [self.units.column] if self.units else []
        return list(dict.fromkeys([*own, *self.filters, *units]))

    @staticmethod
    def _raw_value(kind: FieldKind, raw: dict[str, Any]) -> Any:
        """Return the value of the field's column, or the combined value of its columns."""
        column = kind.field.column
        if isinstance(column, str):
            return raw[column]
        return kind.combine({name: raw[name] for name in column})

    def check(self, row: Row, file: str) -> Example | SkipReason:
        """Return the row's example, or the reason why it is skipped.

        Raises InputError, with the file's name and the row's number, for a value that reveals a
        wrong setting.
        """
        raw = row.values
        if raw is None:
            return row.skip or SkipReason.WRONG_FIELDS
        if any(not _is_equal(as_text(raw[name]), value) for name, value in self.filters.items()):
            return SkipReason.FILTERED
        example = self.check_values(row, [self._raw_value(kind, raw) for kind in self.fields], file)
        if not self.units or isinstance(example, SkipReason):
            return example
        unit = self.units.unit(raw[self.units.column])
        return unit if isinstance(unit, SkipReason) else example._replace(unit=unit)

    def check_values(self, row: Row, raw: Sequence[Any], file: str) -> Example | SkipReason:
        """Return the example of a row, given the raw value of each field, as `check` does."""
        values: list[Any] = []
        for kind, raw_value in zip(self.fields, raw, strict=True):
            try:
                value = kind.check(raw_value)
            except InputError as error:
                raise InputError(f"{row.place(file)}: {error}") from None
            if isinstance(value, SkipReason):
                return value
            values.append(value)
        pairs = list(zip(self.fields, values, strict=True))
        if len({len(value) for kind, value in pairs if kind.by_word}) > 1:
            return SkipReason.MISALIGNED
        identity = self.fields[0].data(values[0])
        others = [kind.data(value) for kind, value in pairs if kind.field in self.further]
        whole = identity
        if others:
            whole = b"\0".join([len(identity).to_bytes(8), identity, *others])
        return Example(row.number, row.line, row.file, tuple(values), identity, whole)


def _is_equal(text: str, value: str) -> bool:
    """Return whether a text is the value of a filter or another spelling of it."""
    return text == value or label_key(text) == label_key(value)
