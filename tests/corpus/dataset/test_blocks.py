"""Column types, in memory and in Arrow."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.corpus.dataset.blocks import batch, numpy_dtype, schema, to_numpy
from pipeline.corpus.field_spec import FieldSpec, column_types
from pipeline.stream.rows import Ragged, columns_of

KINDS: dict[str, tuple[Any, list[Any]]] = {
    "text": (pa.list_(pa.uint16()), [[5, 6], [7]]),
    "targets": (pa.list_(pa.uint16()), [[5, 3], [7, 3]]),
    "words": (pa.list_(pa.uint16()), [[5, 6], [7]]),
    "tags": (pa.list_(pa.uint16()), [[0, 1], [1]]),
    "labels": (pa.list_(pa.uint16()), [[1, 2], []]),
    "label": (pa.int32(), [1, 0]),
    "number": (pa.float32(), [0.5, -2.0]),
    "weight": (pa.float32(), [0.5, 2.0]),
    "characters": (pa.list_(pa.list_(pa.uint8(), 2)), [[[97, 0], [98, 99]], [[97, 98]]]),
    "steps": (pa.list_(pa.list_(pa.uint8(), 2)), [[[1, 2]], [[3, 4], [5, 6]]]),
    "pixels": (pa.list_(pa.list_(pa.uint8(), 2)), [[[1, 2]], [[3, 4], [5, 6]]]),
    "features": (pa.list_(pa.list_(pa.float32(), 2)), [[[0.5, 2]], [[3, 4], [5, 6]]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_in_memory_and_in_arrow_have_the_same_values(kind: str) -> None:
    arrow_type, values = KINDS[kind]
    fields = (FieldSpec("x", "x", kind, width=2),)
    types = column_types(fields, {"tokenizer": 100}, {"x": ["a", "b"]})
    columns = schema(fields, {"tokenizer": 100}, {"x": ["a", "b"]})
    assert columns.types == [arrow_type]
    rows: list[Any] = [(np.array(value) if isinstance(value, list) else value,) for value in values]
    stored: Any = batch(columns, rows).column(0)
    assert stored.to_pylist() == values
    column = columns_of(types, rows)["x"]
    if isinstance(column, Ragged):
        in_arrow = to_numpy(stored.flatten())
        assert column.values.dtype == in_arrow.dtype
        assert np.array_equal(column.values[: len(in_arrow)], in_arrow)
    else:
        assert np.array_equal(column, to_numpy(stored))


@pytest.mark.parametrize("name", ["bool", "int8", "uint16", "int64", "float16", "float64"])
def test_numpy_types_of_arrow_types(name: str) -> None:
    assert numpy_dtype(pa.from_numpy_dtype(np.dtype(name))) == np.dtype(name)
