"""Values of Arrow columns as Python values."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from pipeline.corpus.readers.base import Record, check_columns, nested
from pipeline.errors import InputError


class ArrowColumns:
    """Reads some columns of Arrow record batches.

    A name with dots, such as `body.text`, may be a path through columns of structs. Integers that
    are labels of a Hugging Face dataset become the labels' names. Raises InputError, with the
    file's `name`, unless the schema has the columns.
    """

    def __init__(self, schema: pa.Schema, columns: Sequence[str], name: str) -> None:
        try:
            schema.to_string(show_field_metadata=False, show_schema_metadata=False)
            available = list(schema.names)
        except UnicodeDecodeError:
            raise InputError(
                f"{name}: has a column whose name is not UTF-8; download or write it again"
            ) from None
        paths = [c for c in columns if c not in available and _has_path(schema, c)]
        check_columns(columns, [*available, *paths], name)
        self.columns = list(columns)
        self.top_level = list(dict.fromkeys(c.partition(".")[0] if c in paths else c
                                            for c in columns))  # fmt: skip
        """The schema's columns that have to be read."""
        self._nested = bool(paths)
        self._class_names = _class_names(schema)

    def records(self, batch: pa.RecordBatch) -> Iterator[Record]:
        """Yield the batch's rows."""
        arrays = [_to_python(batch.column(column)) for column in self.top_level]
        for number, column in enumerate(self.top_level):
            if names := self._class_names.get(column):
                arrays[number] = [_name(value, names) for value in arrays[number]]
        for values in zip(*arrays, strict=True):
            record = dict(zip(self.top_level, values, strict=True))
            if self._nested:
                record = {column: nested(record, column) for column in self.columns}
            yield record


def _has_path(schema: pa.Schema, column: str) -> bool:
    first, *rest = column.split(".")
    if not rest or first not in schema.names:
        return False
    dtype: Any = schema.field(first).type
    for key in rest:
        if pa.types.is_struct(dtype) and dtype.get_field_index(key) >= 0:
            dtype = dtype.field(key).type
        elif key.isdigit() and (pa.types.is_list(dtype) or pa.types.is_large_list(dtype)):
            dtype = dtype.value_type
        else:
            return False
    return True


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the label names of the columns that a Hugging Face dataset declares as labels."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {}
        for column, feature in features.items():
            inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
            inner = inner[0] if isinstance(inner, list) else inner
            if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
                found[column] = [str(name) for name in inner["names"]]
        return found
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    is_label = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_label else None if value == -1 else value  # -1: not labeled


def _to_python(column: Any) -> list[Any]:
    """Convert an Arrow array to Python values.

    Strings are decoded here, as files do not guarantee UTF-8: other bytes become surrogates.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    dtype = column.type
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        items, lengths = iter(_to_python(column.flatten())), column.value_lengths().to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if pa.types.is_struct(dtype):
        fields = [dtype.field(index) for index in range(dtype.num_fields)]
        parts = [_to_python(column.field(index)) for index in range(dtype.num_fields)]
        rows = zip(*parts, strict=True) if parts else ((),) * len(column)
        names = [field.name for field in fields]
        valid = column.is_valid().to_pylist()
        return [
            dict(zip(names, values, strict=True)) if is_valid else None
            for values, is_valid in zip(rows, valid, strict=True)
        ]
    if not _is_string(dtype):
        return list(column.to_pylist())
    encoded = column.cast(pa.large_binary()).to_pylist()
    return [None if data is None else data.decode("utf-8", "surrogateescape") for data in encoded]


def _is_string(dtype: Any) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(dtype) for is_kind in kinds)
