"""Numbers and texts in the form that a person reads."""

import math
from datetime import UTC, datetime


def number(value: float) -> str:
    """Return a number with four significant digits.

    >>> number(0.916666), number(25000), number(1234.5), number(float("nan"))
    ('0.9167', '25,000', '1,234', 'not defined')
    """
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def tick(value: float) -> str:
    """Return a number as the label of a tick.

    >>> tick(0.25), tick(2000), tick(1500000), tick(0), tick(0.0005)
    ('0.25', '2k', '1.5M', '0', '0.0005')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def share(value: float) -> str:
    """Return a share as a percentage.

    >>> share(0.9167)
    '91.7 %'
    """
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Return a time span in one or two units.

    >>> duration(42), duration(250), duration(9000)
    ('42 s', '4 min 10 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def date(seconds: float) -> str:
    """Return a Unix time as a date and time in UTC.

    >>> date(1795838600)
    '2026-11-28 04:03 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
