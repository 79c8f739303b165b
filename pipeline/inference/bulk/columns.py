"""The columns of the output: kept columns of the input, the prediction, and `error`."""

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.corpus.row import Row
from pipeline.errors import ConfigError, HeadraceError, InputError
from pipeline.inference.bulk.input_parts import plain
from pipeline.inference.run_input import RawInput
from pipeline.tasks.base.task import Task

ERROR, JSON_COLUMN = "error", "prediction"
"""The column of errors, and the column of JSON for tasks that do not declare prediction types."""
ARROW_TYPES = {str: pa.string, int: pa.int64, float: pa.float64}
KEPT_TYPES = ((bool, pa.bool_()), (int, pa.int64()), ((int, float), pa.float64()))
"""The types of a kept column, by the Python types of its values; all others become text."""


def check_keep(keep: Sequence[str], task: Task) -> None:
    """Raise ConfigError for a column that is given twice or has the name of an output column."""
    own = {*prediction_columns(task), ERROR}
    for number, name in enumerate(keep):
        if not name:
            raise ConfigError("--keep: has an empty name; separate the names by single commas")
        if name in keep[:number]:
            raise ConfigError(f"--keep {name}: is given twice; name each column once")
        if name in own:
            raise ConfigError(
                f"--keep {name}: is also a column of the prediction ({', '.join(sorted(own))}); "
                "rename it in the input"
            )


def prediction_columns(task: Task) -> dict[str, Any]:
    """Return the Arrow types of a task's predictions by column."""
    declared = task.prediction_types()
    return {n: arrow_type(t) for n, t in declared.items()} or {JSON_COLUMN: pa.string()}


def arrow_type(declared: Any) -> Any:
    """Return the Arrow type of a type in `Task.prediction_types`."""
    if isinstance(declared, list):
        return pa.list_(arrow_type(declared[0]))
    if isinstance(declared, Mapping):
        return pa.struct([pa.field(name, arrow_type(t)) for name, t in declared.items()])
    if isinstance(declared, types.GenericAlias):
        return pa.map_(*(arrow_type(argument) for argument in declared.__args__))
    return ARROW_TYPES[declared]()


def kept_columns(
    keep: Sequence[str], rows: Sequence[Row], arrow_types: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the Arrow types of kept columns: `arrow_types`, those of the input file, or else the
    types of the values in the first rows."""
    found = [row.values for row in rows if row.values is not None]
    return {
        name: arrow_types.get(name) or _type_of([values[name] for values in found]) for name in keep
    }


def _type_of(values: Sequence[Any]) -> Any:
    present = [value for value in values if value is not None]
    for python_types, dtype in KEPT_TYPES if present else ():
        if all(
            isinstance(value, python_types) and (isinstance(value, bool) == (python_types is bool))
            for value in present
        ):
            return dtype
    return pa.binary() if present and all(isinstance(v, bytes) for v in present) else pa.string()


class OutputColumns:
    """Converts rows and predictions to Arrow tables or lines of JSON."""

    def __init__(self, kept: Mapping[str, Any], predicted: Mapping[str, Any]) -> None:
        """`kept` and `predicted` are Arrow types by column."""
        self._kept, self._predicted = kept, predicted
        self._is_json = list(predicted) == [JSON_COLUMN]
        columns = {**kept, **predicted, ERROR: pa.string()}
        self.schema = pa.schema([pa.field(name, dtype) for name, dtype in columns.items()])

    def table(
        self, items: Sequence[RawInput], predictions: Sequence[Mapping[str, Any]]
    ) -> pa.Table:
        """Return an Arrow table with a row per input. Raises InputError for a value of another
        type than its column's."""
        arrays = [self._kept_array(name, items) for name in self._kept]
        if self._is_json:
            texts = [None if ERROR in p else _json(p) for p in predictions]
            arrays.append(pa.array(texts, pa.string()))
        else:
            self._check_names(predictions)
            arrays += [
                pa.array([p.get(name) for p in predictions], dtype)
                for name, dtype in self._predicted.items()
            ]
        arrays.append(pa.array([p.get(ERROR) for p in predictions], pa.string()))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def lines(
        self, items: Iterable[RawInput], predictions: Iterable[Mapping[str, Any]]
    ) -> Iterable[str]:
        """Yield a line of JSON per input: the kept columns, then the prediction or `error`."""
        for item, prediction in zip(items, predictions, strict=True):
            values = item.row.values or {}
            yield _json({**{name: values.get(name) for name in self._kept}, **prediction}) + "\n"

    def _check_names(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        known = {*self._predicted, ERROR}
        for prediction in predictions:
            if unknown := prediction.keys() - known:
                raise HeadraceError(
                    f"the task's predictions have {', '.join(sorted(unknown))}, but its "
                    "prediction_types do not; add it there, or use --output-format=jsonl"
                )

    def _kept_array(self, name: str, items: Sequence[RawInput]) -> Any:
        values = [(item.row.values or {}).get(name) for item in items]
        dtype = self._kept[name]
        if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
            return pa.array([_text(value) for value in values], dtype)
        try:
            return pa.array(values, dtype)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            item = next(i for i, v in zip(items, values, strict=True) if not _fits(v, dtype))
            error = InputError(
                f"{item.row.place(item.file)}: {name}={(item.row.values or {})[name]!r:.60}: is "
                f"not of the type {dtype}, which this column has in the first rows; correct it, "
                "or use --output-format=jsonl"
            )
            error.local = True  # only one process converts the row
            raise error from None


def _fits(value: Any, dtype: Any) -> bool:
    try:
        pa.array([value], dtype)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _text(value: Any) -> str | None:
    """Return a value as text in valid UTF-8; lists and objects as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else plain(value)
    if isinstance(value, list | dict | bool):
        text = _json(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _json(value: Any) -> str:
    """Return a value as JSON in valid UTF-8; numbers that JSON lacks become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, default=plain)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    is_finite = not isinstance(value, float) or value - value == 0
    return value if is_finite else None
