"""Labels, several per row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.column_type import ColumnType, token_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import (
    Cells,
    EncodingContext,
    FieldKind,
    as_text,
    scalar_text,
    string_flaw,
)
from pipeline.corpus.fields.label_names import NameIndex, label_key
from pipeline.corpus.fields.text_lists import EMPTY_SETS, parse_list, parse_map
from pipeline.corpus.settings import CorpusSettings, LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.settings import setting

BINARY = {"1": True, "true": True, "0": False, "false": False}


class LabelsField(FieldKind):
    """Label names, possibly none, in one of these forms:

    - a list of names or indices, or such a list as a string
    - a string of names joined by `label_separator`
    - a map from names to 0 or 1, or such a map as a string; several columns of 0 and 1 are a map
    - a vector of 0 and 1 with one item for each of `label_names`. It is recognized only if a value
      is repeated, because a list of label indices has no duplicates.

    Stored indices start at 1 because 0 pads shorter lists.
    """

    class Settings(LabelSettings):
        label_separator: str = setting(
            ",", "separator between labels, where a row's labels are one string", min_length=1
        )

    has_names = combines = True
    is_input = False
    settings: Settings

    def combine(self, values: Mapping[str, Any]) -> Any:
        """Return a map from label to 0 or 1, as `check` reads it."""
        return dict(values)

    def __init__(self, field: FieldSpec, settings: CorpusSettings) -> None:
        super().__init__(field, settings)
        index = NameIndex(self.settings.names, self.settings)
        self._positions = {number: label for label, number in reversed(index.items())}
        self._binary_names = any(label_key(label) in BINARY for label in index)

    def check(self, value: Any) -> Any:
        if isinstance(value, (str, bytes)):
            value = self._parse(scalar_text(value))
        if isinstance(value, SkipReason):
            return value
        if isinstance(value, dict):
            names = _names_of_map(value)
        elif isinstance(value, list):
            names = self._names_of_list(value)
        else:
            name = as_text(value)
            names = [name] if name else SkipReason.NO_LABEL
        return names if isinstance(names, SkipReason) else string_flaw(names) or names

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            Cells([np.array([n + 1 for n in dict.fromkeys(map(context.index.__getitem__, names))],
                            int)])
            for names in values
        ]  # fmt: skip

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return token_list(vocabulary + 1)

    def _parse(self, text: str) -> Any:
        """Parse a list or map in a string; return a SkipReason if it cannot be parsed."""
        if text.lstrip()[:1] in ("[", "(", "{") or text.strip() in EMPTY_SETS:
            found = parse_map(text)
            parsed = parse_list(text, bare=True) if found is None else found
            if parsed is not None:
                return parsed
        return text.split(self.settings.label_separator)

    def _names_of_list(self, items: Sequence[Any]) -> list[str] | SkipReason:
        if any(isinstance(item, (list, dict)) for item in items):
            return SkipReason.BAD_LIST
        names = [name for name in map(as_text, items) if name]
        if 1 < len(items) == len(self._positions) and self._is_incomplete(items, names):
            return SkipReason.NOT_BINARY if names else SkipReason.NO_LABEL
        if len(names) > 1 and not self._binary_names and label_key(names[0]) in BINARY:
            keys = [label_key(name) for name in names]
            if all(key in BINARY for key in keys):
                if not self._may_be_numbers(keys):
                    return self._names_of_vector([BINARY[key] for key in keys])
                if len(names) == len(self._positions):
                    return SkipReason.VECTOR
        return list(dict.fromkeys(names))

    def _is_incomplete(self, items: Sequence[Any], names: Sequence[str]) -> bool:
        """Return whether items, one for each label, are a vector of 0 and 1 with missing values."""
        are_flags = all(label_key(name) in BINARY for name in names)
        return len(names) < len(items) and are_flags and not self._binary_names

    def _may_be_numbers(self, keys: Sequence[str]) -> bool:
        """Return whether items that are all 0 or 1 may be the labels 0 and 1."""
        settings = self.settings
        counts_from_0 = isinstance(settings.label_names, list) and not settings.label_base
        return counts_from_0 and keys[0] in ("0", "1") and len(set(keys)) == len(keys)

    def _names_of_vector(self, flags: Sequence[bool]) -> list[str] | SkipReason:
        if len(flags) != len(self._positions):
            return SkipReason.VECTOR
        return [self._positions[number] for number, flag in enumerate(flags) if flag]


def _names_of_map(values: Mapping[Any, Any]) -> list[str] | SkipReason:
    """Return the names whose value in a map is 1 or true."""
    texts = {
        as_text(name): "?" if isinstance(value, (list, dict)) else as_text(value)
        for name, value in values.items()
    }
    if texts and not any(texts.values()):
        return SkipReason.NO_LABEL
    flags = {name: BINARY.get(label_key(text)) for name, text in texts.items()}
    if None in flags.values():
        return SkipReason.NOT_BINARY
    return [name for name, flag in flags.items() if flag and name]
