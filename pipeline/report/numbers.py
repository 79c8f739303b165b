"""Numbers, times and dates, formatted for the reader of a report."""

import math
from datetime import UTC, datetime


def format_number(value: float) -> str:
    """Return a number with four significant digits.

    >>> [format_number(value) for value in (0.916666, 25000, 1234.5, float("nan"))]
    ['0.9167', '25,000', '1,234', 'not defined']
    """
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_tick(value: float) -> str:
    """Return a number as a tick label.

    >>> [format_tick(value) for value in (0.25, 2000, 1500000, 0, 0.0005)]
    ['0.25', '2k', '1.5M', '0', '0.0005']
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def format_share(value: float) -> str:
    """Return a share as a percentage.

    >>> format_share(0.9167)
    '91.7 %'
    """
    return f"{100 * value:.1f} %"


def format_duration(seconds: float) -> str:
    """Return a time span in one or two units.

    >>> format_duration(42), format_duration(250), format_duration(9000)
    ('42 s', '4 min 10 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_date(seconds: float) -> str:
    """Return a Unix time as a date and time in UTC.

    >>> format_date(1795838600)
    '2026-11-28 04:03 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
