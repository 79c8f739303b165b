"""Values of Arrow columns as Python values."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.readers.base import Record, check_columns, nested
from pipeline.errors import InputError

BINARY_TYPES: Any = (
    (pa.types.is_string, pa.binary),
    (pa.types.is_large_string, pa.large_binary),
    (pa.types.is_string_view, pa.binary_view),
)
"""The binary type for each kind of string type."""
LIST_TYPES: Any = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_fixed_size_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


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
        paths = {c: _start(schema, c) for c in columns if c not in available}
        check_columns(columns, [*available, *(c for c, start in paths.items() if start)], name)
        self.columns = list(columns)
        self.top_level = list(dict.fromkeys(paths.get(column, column) for column in columns))
        """The schema's columns that have to be read."""
        self._nested = bool(paths)
        self._class_names = _class_names(schema)
        self.types = {c: self._type(schema, c) for c in columns}
        """The Arrow type of each column's values; text for the path of a nested value."""

    def _type(self, schema: pa.Schema, column: str) -> Any:
        if column not in schema.names or self._class_names.get(column):
            return pa.string()
        dtype: Any = schema.field(column).type
        if isinstance(dtype, pa.BaseExtensionType):
            dtype = dtype.storage_type
        return dtype.value_type if pa.types.is_dictionary(dtype) else dtype

    def records(self, batch: pa.RecordBatch) -> Iterator[Record]:
        """Yield the batch's rows."""
        arrays = [_shortest(_to_python(c), c.type) for c in map(batch.column, self.top_level)]
        for number, column in enumerate(self.top_level):
            if names := self._class_names.get(column):
                arrays[number] = [_name(value, names) for value in arrays[number]]
        for values in zip(*arrays, strict=True):
            record = dict(zip(self.top_level, values, strict=True))
            if self._nested:
                record = {column: nested(record, column) for column in self.columns}
            yield record


def _shortest(values: list[Any], dtype: Any) -> list[Any]:
    """Return float16 or float32 numbers as the shortest decimals that round to them, as in text
    formats: 0.1, not 0.10000000149011612."""
    if not (pa.types.is_float16(dtype) or pa.types.is_float32(dtype)):
        return values
    narrow = np.float16 if pa.types.is_float16(dtype) else np.float32
    return [None if value is None else float(str(narrow(value))) for value in values]


def _start(schema: pa.Schema, column: str) -> str:
    """Return the schema's column at which a path begins; empty if there is no such path."""
    keys = column.split(".")
    starts = ((".".join(keys[:end]), keys[end:]) for end in range(1, len(keys)))
    return next(
        (
            start
            for start, rest in starts
            if schema.names.count(start) == 1 and _leads(schema.field(start).type, rest)
        ),
        "",
    )


def _leads(dtype: Any, keys: Sequence[str]) -> bool:
    """Return whether a type has a nested value at a path. Keys may contain dots."""
    if not keys:
        return True
    if _is_list(dtype):
        return keys[0].isdecimal() and _leads(dtype.value_type, keys[1:])
    for end in range(1, len(keys) + 1):
        key, rest = ".".join(keys[:end]), keys[end:]
        if pa.types.is_map(dtype):
            inner = dtype.item_type
        elif pa.types.is_struct(dtype) and dtype.get_field_index(key) >= 0:
            inner = dtype.field(key).type
        else:
            continue
        if _leads(inner, rest):
            return True
    return False


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the label names of the columns that a Hugging Face dataset declares as labels."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _feature_names(feature) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in found.items() if names}


def _feature_names(feature: Any) -> list[str]:
    """Return the names of a ClassLabel feature, or of a list of these; else an empty list."""
    while isinstance(feature, list) or (isinstance(feature, dict) and "feature" in feature):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature["names"]]
    return []


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    is_label = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if is_label else None if value == -1 else value  # -1: not labeled


def binary_type(dtype: Any) -> Any:
    """Return a type with binary types in place of string types."""
    for is_kind, replacement in BINARY_TYPES:
        if is_kind(dtype):
            return replacement()
    if isinstance(dtype, pa.BaseExtensionType):
        return binary_type(dtype.storage_type)
    if pa.types.is_dictionary(dtype):
        return pa.dictionary(dtype.index_type, binary_type(dtype.value_type), dtype.ordered)
    if pa.types.is_struct(dtype):
        return pa.struct([_binary_field(dtype.field(i)) for i in range(dtype.num_fields)])
    if pa.types.is_map(dtype):
        return pa.map_(
            _binary_field(dtype.key_field), _binary_field(dtype.item_field), dtype.keys_sorted
        )
    for is_list, make in LIST_TYPES:
        if is_list(dtype):
            size = [dtype.list_size] if pa.types.is_fixed_size_list(dtype) else []
            return make(_binary_field(dtype.value_field), *size)
    return dtype


def _binary_field(field: Any) -> Any:
    return field.with_type(binary_type(field.type))


def _to_python(column: Any) -> list[Any]:
    """Convert an Arrow array to Python values; a map becomes a dict.

    Strings are decoded here, because files may have bytes that are not UTF-8, which become lone
    surrogates.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    dtype = column.type
    if _is_list(dtype):
        lengths = pc.list_value_length(column).to_pylist()
        items = iter(_to_python(column.flatten()))
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if pa.types.is_map(dtype):
        return _maps(column)
    if pa.types.is_struct(dtype):
        return _structs(column)
    if _is_string(dtype):
        encoded = column.cast(pa.large_binary()).to_pylist()
        return [None if d is None else d.decode("utf-8", "surrogateescape") for d in encoded]
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):  # a time that Python cannot represent
        return list(column.cast(pa.string()).to_pylist())


def _maps(column: Any) -> list[Any]:
    keys, values = _to_python(column.keys), _to_python(column.items)
    spans = pairwise(column.offsets.to_pylist())
    return [
        dict(zip(keys[start:stop], values[start:stop], strict=True)) if is_valid else None
        for (start, stop), is_valid in zip(spans, column.is_valid().to_pylist(), strict=True)
    ]


def _structs(column: Any) -> list[Any]:
    indices = range(column.type.num_fields)
    names = [column.type.field(index).name for index in indices]
    parts = [_to_python(column.field(index)) for index in indices]
    rows = zip(*parts, strict=True) if parts else ((),) * len(column)
    return [
        dict(zip(names, values, strict=True)) if is_valid else None
        for values, is_valid in zip(rows, column.is_valid().to_pylist(), strict=True)
    ]


def _is_list(dtype: Any) -> bool:
    return any(is_kind(dtype) for is_kind, _ in LIST_TYPES)


def _is_string(dtype: Any) -> bool:
    return any(is_kind(dtype) for is_kind, _ in BINARY_TYPES)
