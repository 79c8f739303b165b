"""Plots of a run as matplotlib `Figure` objects.

The functions do not use pyplot, so there is no global state and any thread may call them.
matplotlib is imported when the first plot is made: training works without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.base.confusion import most_confused
from pipeline.wording import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAME = 22
"""Characters of a label."""
MAX_BARS = 100
"""Bars of a length histogram."""
DPI = 120
TEXT_COLOR, BAR_COLOR, ACCENT_COLOR = "#222222", "#4878a8", "#d9822b"


def confusion_matrix(
    table: Sequence[Sequence[int]],
    labels: Sequence[str],
    title: str,
    counted: str = "rows",
    *,
    left_out: int = 0,
    accuracy: float | None = None,
) -> Figure:
    """Plot counts of (true, predicted) pairs, colored by their share of the matrix row.

    With more than MAX_CONFUSED labels, the labels with the most errors (false positives plus false
    negatives) are shown; the shares still refer to all labels. Raises ValueError if the shape of
    `table` does not match `labels`.

    Args:
        table: Counts [C, C] for C labels, indexed as table[true][predicted].
        labels: Names of the labels.
        title: Start of the plot's title; the accuracy follows.
        counted: Plural noun for what the table counts, used in the title.
        left_out: Number of labels that share the last row and column.
        accuracy: Share of correct predictions; by default, computed from the table.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(table, np.int64)  # [C, C]
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"table of shape {counts.shape} does not match {len(labels)} labels")
    if accuracy is None:
        accuracy = float(counts.trace() / max(counts.sum(), 1))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # [C, C]
    title = f"{title}: {accuracy:.1%} of {counts.sum():,} {counted} correct"
    shown = most_confused(counts)
    if len(shown) < len(labels):
        frequent = len(labels) - bool(left_out)
        total = f"the {frequent} most frequent of " * bool(left_out) + f"{frequent + left_out:,}"
        title += f"\n{len(shown)} most confused of {total} labels; shares over all labels"
        counts, shares = counts[np.ix_(shown, shown)], shares[np.ix_(shown, shown)]
    names = [shorten(labels[i], MAX_NAME) for i in shown]

    n = len(shown)
    side = n * (0.72 if n > 4 else 1.1)
    margin = 1.2 + 0.07 * max(map(len, names))
    inches = (max(side + margin, 4.8), max(side + margin, 4.0))
    figure = Figure(inches, DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        color = "white" if share > 0.55 else TEXT_COLOR if count else "#bbbbbb"
        text = f"{_format_count(int(count))}\n{share:.1%}" if count else "0"
        weight = "bold" if row == column else "normal"
        size = 9 if n > 4 else 11
        axes.text(
            column, row, text, ha="center", va="center", color=color, weight=weight, size=size
        )
    axes.set_xticks(range(n), names)
    axes.set_yticks(range(n), names)
    if n > 4:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.set_title(title, size=16 if n > 10 else 11)
    return figure


def scatter(points: Sequence[tuple[float, float]], title: str) -> Figure:
    """Plot predicted numbers over true ones, with the line on which they are equal.

    Points that are not finite are left out.
    """
    from matplotlib.figure import Figure

    pairs = np.asarray(points, np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    figure = Figure(figsize=(5, 5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    if len(pairs):
        low, high = pairs.min(), pairs.max()
        axes.plot([low, high], [low, high], color=ACCENT_COLOR, linewidth=1)
    axes.scatter(pairs[:, 0], pairs[:, 1], s=8, alpha=0.4, color=BAR_COLOR, linewidths=0)
    axes.set_title(f"{title}: {len(pairs):,} rows", fontsize=9, color=TEXT_COLOR)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    return figure


def length_histogram(
    rows: Sequence[int] | NDArray[np.int64], edges: Sequence[int], total: int = 0
) -> Figure:
    """Plot the number of rows by their tokens, and the lengths that batches are padded to.

    Raises ValueError if there are no rows, or if the longest row is longer than the last edge.

    Args:
        rows: rows[n] is the number of rows with n tokens.
        edges: Padded lengths in ascending order; the last is at least the longest row.
        total: Rows of the split, if `rows` counts only a sample of them.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    counts = np.asarray(rows, np.int64)
    if not counts.any():
        raise ValueError("a length histogram needs at least one row")
    longest = int(np.flatnonzero(counts)[-1])
    counts = counts[: longest + 1]
    if edges[-1] < longest:
        raise ValueError(f"the last edge is {edges[-1]}, but the longest row has {longest} tokens")
    width = -(-(longest + 1) // MAX_BARS)
    heights = np.add.reduceat(counts, np.arange(0, longest + 1, width))
    tokens = int(counts @ np.arange(longest + 1))

    figure = Figure((8, 4), DPI, layout="constrained")
    axes = figure.add_subplot()
    starts = np.arange(len(heights)) * width - 0.5
    axes.bar(starts, heights, width * 0.92, align="edge", color=BAR_COLOR, zorder=2)
    axes.vlines(edges, 0, 0.035, ACCENT_COLOR, zorder=3, transform=axes.get_xaxis_transform())
    axes.set_xlim(0, max(longest, edges[-1]) * 1.01 + 1)
    axes.set_xlabel("tokens per row; orange: lengths that batches are padded to")
    axes.set_ylabel("rows" if width == 1 else f"rows, {width} lengths per bar")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    counted = int(counts.sum())
    sampled = f" of {_format_count(total)}" if total > counted else ""
    padding = f"padding to bucket edges: {padding_share(counts, edges):.1%}"
    axes.set_title(
        f"{_format_count(counted)}{sampled} rows, {_format_count(tokens)} tokens; {padding}",
        size=11,
    )
    return figure


def padding_share(rows: NDArray[np.int64], edges: Sequence[int]) -> float:
    """Return the share of padding among all tokens if each row is padded to the next edge.

    `rows[n]` is the number of rows with n tokens.
    """
    lengths = np.arange(len(rows))
    padded = int(rows @ np.asarray(edges)[np.searchsorted(edges, lengths)])
    return 1 - int(rows @ lengths) / max(padded, 1)


def _format_count(count: int) -> str:
    """Format a count in about five characters: 9,876, 98.8k, 988k, 9.88M."""
    if count < 10_000:
        return f"{count:,}"
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12)):
        if count < 999.5 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"
