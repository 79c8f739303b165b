"""Small charts as inline SVG: no library, no script, colors from the style of the page.

Each function returns an `<svg>` element. Its classes are styled by `style.STYLE`, so a chart
follows the light or dark theme. Text from a corpus is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipeline.report.numbers import format_number, format_tick
from pipeline.wording import shorten

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 14, 34
LOG_RATIO = 10
"""A line chart has a log scale if the largest value is more than this many times the smallest."""
MAX_POINTS = 200
"""Maximum number of points of a line; if there are more, neighbors are averaged."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a line chart."""

    name: str
    points: Sequence[Point]
    dashed: bool = False


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    best: Point | None = None,
    last_step: float = 0.0,
    may_be_log: bool = True,
) -> str:
    """Draw lines over the steps of a run, at least up to `last_step`. `best` is a point to mark.

    With `may_be_log`, the scale is logarithmic if all values are positive, some exceed 1, and they
    differ by more than a factor of LOG_RATIO.
    """
    drawn = [Line(x.name, _downsample(x.points), x.dashed) for x in lines if x.points]
    points = [point for line in drawn for point in line.points]
    if not points:
        return ""
    values = [y for _, y in points]
    low, high = min(values), max(values)
    log = may_be_log and low > 0 and high > 1 and high / low > LOG_RATIO
    steps_range = _range([*(x for x, _ in points), last_step], zero=True)
    axes = Axes(steps_range, _range(values, log=log), log=log)
    steps = [(step, format_tick(step)) for step in ticks(*axes.x_range) if step == int(step)]
    parts = [axes.draw("step", "log scale" if log else "", x_ticks=steps)]
    for i, line in enumerate(drawn):
        parts.append(_draw_line(axes, line, i))
    if len(drawn) > 1:
        parts.append(_line_names(drawn))
    if best:
        x, y = axes.x(best[0]), axes.y(best[1])
        parts.append(f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    return _svg(parts, title)


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    notes: Sequence[str] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> str:
    """Draw one upright bar per label.

    `notes` are shown when the pointer is over a bar. `x_ticks` replaces the labels below the bars;
    each tick has a position, in bars from the left, and a text.
    """
    if not values:
        return ""
    axes = Axes((0, len(values)), (0, max(*values, 1e-9)), top=TOP + 10)
    if x_ticks is None:
        step = max(1, math.ceil(len(labels) * max(len(label) for label in labels) / 40))
        x_ticks = [(i + 0.5, label) for i, label in enumerate(labels) if i % step == 0]
    parts = [axes.draw(x_label, y_label, x_ticks=x_ticks)]
    for i, (label, value) in enumerate(zip(labels, values, strict=True)):
        gap = 0.12 if len(labels) < 20 else 0.06
        left, right = axes.x(i + gap), axes.x(i + 1 - gap)
        note = f", {notes[i]}" if notes else ""
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{axes.y(value):.1f}" '
            f'width="{right - left:.1f}" height="{axes.y(0) - axes.y(value):.1f}">'
            f"<title>{escape(f'{label} {x_label}: {format_number(value)}{note}')}</title></rect>"
        )
    return _svg(parts, title)


def reliability(points: Sequence[tuple[float, float, int]], *, title: str) -> str:
    """Draw accuracy against mean probability. Points are (probability, accuracy, predictions).

    The area of a dot grows with its predictions. On the dashed line, accuracy equals probability.
    """
    if not points:
        return ""
    low = min(0.9, math.floor(10 * min(min(c, a) for c, a, _ in points)) / 10)
    axes = Axes((low, 1), (low, 1), top=TOP + 10)
    most = max(count for *_, count in points)
    path = " ".join(f"{axes.x(c):.1f},{axes.y(a):.1f}" for c, a, _ in points)
    parts = [
        axes.draw("mean probability", "accuracy"),
        _diagonal(axes, low, 1),
        f'<polyline class="line c0" points="{path}"/>',
    ]
    for confidence, accuracy, count in points:
        radius = 2 + 5 * math.sqrt(count / most)
        parts.append(
            f'<circle class="dot c0" cx="{axes.x(confidence):.1f}" cy="{axes.y(accuracy):.1f}" '
            f'r="{radius:.1f}"><title>mean probability {confidence:.3f}, accuracy '
            f"{accuracy:.3f}, {count:,} predictions</title></circle>"
        )
    return _svg(parts, title)


def scatter(points: Sequence[Point], *, title: str) -> str:
    """Draw predicted against true numbers. On the dashed line they are equal."""
    if not points:
        return ""
    low, high = _range([value for point in points for value in point])
    axes = Axes((low, high), (low, high), top=TOP + 10)
    parts = [
        axes.draw("true", "predicted"),
        _diagonal(axes, low, high),
    ]
    parts += [
        f'<circle class="point" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2"/>'
        for x, y in points
    ]
    return _svg(parts, title)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    shares: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]] | None = None,
    *,
    title: str,
    cell: int = 34,
    diagonal: bool = False,
) -> str:
    """Draw a table of shares in [0, 1] as colored cells, with `texts` in them.

    The size is fixed, so put the map into a box that scrolls. `diagonal` outlines the cells whose
    row and column are equal.
    """
    names = [shorten(name, 18) for name in rows]
    heads = [shorten(name, 18) for name in columns]
    longest = max(map(len, heads), default=0)
    rotated = 6.4 * longest > cell - 4
    left = 12 + round(6.6 * max(map(len, names), default=0))
    top = 14 + (round(5 * longest) if rotated else 8)
    right = 8 + (round(5 * len(heads[-1])) if rotated and heads else 0)
    width, height = left + cell * len(heads) + right, top + cell * len(names) + 4
    parts = []
    for j, name in enumerate(heads):
        x, y = left + cell * (j + 0.5), top - 6
        place = f' transform="rotate(-45 {x:.0f} {y})"' if rotated else ' text-anchor="middle"'
        parts.append(f'<text x="{x:.0f}" y="{y}"{place}>{escape(name)}</text>')
    for i, name in enumerate(names):
        y = top + cell * i
        parts.append(
            f'<text x="{left - 8}" y="{y + cell / 2 + 4:.0f}" text-anchor="end">'
            f"{escape(name)}</text>"
        )
        for j, share in enumerate(shares[i]):
            x, text = left + cell * j, texts[i][j] if texts else ""
            outline = " same" if diagonal and i == j else ""
            if share >= 0.005 or text or outline:
                parts.append(
                    f'<rect class="cell{outline}" x="{x}" y="{y}" width="{cell - 1}" '
                    f'height="{cell - 1}" fill-opacity="{min(share, 1):.2f}"><title>'
                    f"{escape(rows[i])} → {escape(columns[j])}: {text + ', ' if text else ''}"
                    f"{share:.1%}</title></rect>"
                )
            if text:
                shade = "on-dark" if share > 0.55 else "on-light"
                parts.append(
                    f'<text class="{shade}" x="{x + (cell - 1) / 2:.1f}" '
                    f'y="{y + cell / 2 + 3.5:.1f}" text-anchor="middle">{escape(text)}</text>'
                )
    return _svg(parts, title, width, height, fixed=True)


class Axes:
    """The plot area of a chart: the scales of both axes, and their ticks."""

    def __init__(self, x: Point, y: Point, *, top: float = TOP, log: bool = False) -> None:
        self.x_range, self._y, self._top, self._log = x, y, top, log

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        if self._log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        bottom = HEIGHT - BOTTOM
        return bottom - (value - low) / (high - low) * (bottom - self._top)

    def draw(
        self, x_label: str, y_label: str, *, x_ticks: Sequence[tuple[float, str]] | None = None
    ) -> str:
        """Draw grid lines, ticks and labels."""
        parts, bottom = [], HEIGHT - BOTTOM
        for value in log_ticks(*self._y) if self._log else ticks(*self._y):
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{format_tick(value)}</text>"
            )
        if x_ticks is None:
            x_ticks = [(value, format_tick(value)) for value in ticks(*self.x_range)]
        for value, text in x_ticks:
            x = self.x(value)
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{escape(text)}</text>'
            )
        parts.append(
            f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>'
            f'<text class="label" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">'
            f"{escape(x_label)}</text>"
        )
        if y_label:
            parts.append(f'<text class="label" x="{LEFT - 38}" y="10">{escape(y_label)}</text>')
        return "".join(parts)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers in a range.

    >>> ticks(0, 1)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(3, 390)
    [100.0, 200.0, 300.0]
    """
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = min((m * size for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs((high - low) / s - count))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(n * step, 12) for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return up to six numbers with one significant digit in a range.

    >>> log_ticks(40, 3000)
    [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**e for e in exponents for digit in digits]
        if len(inside := [value for value in found if low <= value <= high]) <= 6:
            break
    return inside[:: math.ceil(len(inside) / 6) or 1]


def _range(values: Sequence[float], *, zero: bool = False, log: bool = False) -> Point:
    """Return the range of an axis: not empty, around the values, and from 0 if `zero`."""
    low, high = (0.0 if zero else min(values)), max(values)
    if log:
        return low / 1.1, high * 1.1
    if high <= low:
        margin = abs(low) / 10 or 1.0
        return (low, low + margin) if zero else (low - margin, high + margin)
    return (low, high) if zero else (low - 0.04 * (high - low), high + 0.04 * (high - low))


def _downsample(points: Sequence[Point]) -> list[Point]:
    """Average neighbors until at most MAX_POINTS points are left."""
    size = math.ceil(len(points) / MAX_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size or 1)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _diagonal(axes: Axes, low: float, high: float) -> str:
    """Draw the line on which x and y are equal."""
    return (
        f'<line class="ideal" x1="{axes.x(low):.1f}" y1="{axes.y(low):.1f}" '
        f'x2="{axes.x(high):.1f}" y2="{axes.y(high):.1f}"/>'
    )


def _draw_line(axes: Axes, line: Line, i: int) -> str:
    style = f"c{i % 4}"
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line.points)
    svg = f'<polyline class="line {style}" points="{path}"{dash}/>'
    if len(line.points) <= 30:
        radius = 2 if len(line.points) > 1 else 3.5
        svg += "".join(
            f'<circle class="dot {style}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="{radius}">'
            f"<title>step {x:,.0f}: {y:.5g}</title></circle>"
            for x, y in line.points
        )
    return svg


def _line_names(lines: Sequence[Line]) -> str:
    """Draw the names of the lines at the top right, from right to left."""
    parts, x = [], float(WIDTH - RIGHT)
    for i, line in reversed(list(enumerate(lines))):
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        x -= 5.8 * len(line.name)
        parts.append(
            f'<text x="{x:.1f}" y="11">{escape(line.name)}</text><line class="line c{i % 4}" '
            f'x1="{x - 22:.1f}" y1="7.5" x2="{x - 5:.1f}" y2="7.5"{dash}/>'
        )
        x -= 34
    return "".join(parts)


def _svg(
    parts: Sequence[str],
    title: str,
    width: float = WIDTH,
    height: float = HEIGHT,
    *,
    fixed: bool = False,
) -> str:
    size = f' width="{width:.0f}" height="{height:.0f}"' if fixed else ""
    return (
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
