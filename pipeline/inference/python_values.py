"""Values of NumPy and pandas as values of Python."""

from typing import Any

MISSING = ("NAType", "NaTType")
"""Types of the missing values of pandas, which cannot be compared; pandas need not be installed."""


def python_value(value: Any) -> Any:
    """Return a value of NumPy, torch or pandas as one of Python, None if it is missing; others as
    they are."""
    if type(value).__name__ in MISSING:
        return None
    convert = getattr(value, "tolist", None)
    return value if convert is None else convert()


def check_no_table(value: object, what: str) -> None:
    """Raise TypeError for a table of pandas or Polars, which is iterated by column."""
    if hasattr(value, "columns") and hasattr(value, "shape"):
        raise TypeError(
            f"{what}: are of type {type(value).__name__}; give its rows as dicts, such as "
            'frame.to_dict("records") of pandas'
        )
