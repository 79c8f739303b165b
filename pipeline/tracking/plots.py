"""The figures of a run: data in, a matplotlib `Figure` out.

They are built without pyplot, hence without global state, and may be drawn in any thread.
matplotlib is imported when the first figure is built: training works without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.sample import AttentionMap, ImageData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 20
"""Labels that a confusion matrix has room for."""
MOST_BARS = 100
MOST_TOKENS, MOST_GLOWING = 50, 16
"""Of a text that attention is drawn for, read or written; of one that is written of a picture."""
DPI = 120
INK, BAR, EDGE = "#222222", "#4878a8", "#d9822b"


def confusion_matrix(
    table: Sequence[Sequence[int]], labels: Sequence[str], name: str, counted: str = "rows"
) -> Figure:
    """Counts of (true, predicted) pairs, colored by their share of the row.

    `table[true][predicted]` is square with a row a label; `name` begins the title, which says what
    is `counted`. Of more than MOST_LABELS labels those are shown that most of them are wrongly of
    or wrongly put under; the shares remain those of whole rows. Raises ValueError if table and
    labels do not match.
    """
    from matplotlib.figure import Figure

    counts = np.asarray(table, np.int64)  # [C, C]
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(f"a table of shape {counts.shape} for {len(labels)} labels")
    correct = counts.trace() / max(counts.sum(), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # [C, C]
    title = f"{name}: {correct:.1%} of {counts.sum():,} {counted} correct"
    shown = _most_confused(counts)
    if len(shown) < len(labels):
        title += f"\nthe {len(shown)} most confused of {len(labels)} labels; shares of whole rows"
        counts, shares = counts[np.ix_(shown, shown)], shares[np.ix_(shown, shown)]
    names = [_short(labels[i]) for i in shown]

    n = len(shown)
    side = n * (0.72 if n > 4 else 1.1)
    margin = 1.2 + 0.07 * max(map(len, names))
    inches = (max(side + margin, 4.8), max(side + margin, 4.0))
    figure = Figure(inches, DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        ink = "white" if share > 0.55 else INK if count else "#bbbbbb"
        text = f"{_brief(int(count))}\n{share:.1%}" if count else "0"
        weight = "bold" if row == column else "normal"
        size = 9 if n > 4 else 11
        axes.text(column, row, text, ha="center", va="center", color=ink, weight=weight, size=size)
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


def length_histogram(
    rows: Sequence[int] | NDArray[np.int64], edges: Sequence[int], total: int = 0
) -> Figure:
    """Rows by their number of tokens, and the lengths that batches are padded to.

    `rows[n]` is the number of rows with n tokens, counted over all rows or a sample of `total`;
    `edges` rise and the last is at least the greatest length. Raises ValueError if it is not, or
    if there are no rows.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    counts = np.asarray(rows, np.int64)
    if not counts.any():
        raise ValueError("a length histogram of no rows")
    longest = int(np.flatnonzero(counts)[-1])
    counts = counts[: longest + 1]
    if edges[-1] < longest:
        raise ValueError(f"the last edge is {edges[-1]}, the longest row {longest} tokens")
    width = -(-(longest + 1) // MOST_BARS)
    bars = np.add.reduceat(counts, np.arange(0, longest + 1, width))
    tokens = int(counts @ np.arange(longest + 1))

    figure = Figure((8, 4), DPI, layout="constrained")
    axes = figure.add_subplot()
    starts = np.arange(len(bars)) * width - 0.5
    axes.bar(starts, bars, width * 0.92, align="edge", color=BAR, zorder=2)
    axes.vlines(edges, 0, 0.035, EDGE, zorder=3, transform=axes.get_xaxis_transform())
    axes.set_xlim(0, max(longest, edges[-1]) * 1.01 + 1)
    axes.set_xlabel("tokens of a row; orange: the lengths that batches are padded to")
    axes.set_ylabel("rows" if width == 1 else f"rows, {width} lengths a bar")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    seen = int(counts.sum())
    sample = f" of {_brief(total)}" if total > seen else ""
    padding = f"padding to the edges of buckets: {padding_share(counts, edges):.1%}"
    axes.set_title(f"{_brief(seen)}{sample} rows, {_brief(tokens)} tokens; {padding}", size=11)
    return figure


def attention(attention: AttentionMap, picture: ImageData | None = None) -> Figure:
    """What a decoder looked at for each token that it wrote: a heat map, the tokens that were read
    from left to right and those that were written from top to bottom; of a picture, a copy of it
    for each of the first MOST_GLOWING tokens in which the same glows (Xu et al. 2015). No more than
    MOST_TOKENS either way."""
    if picture and attention.plane != (0, 0):
        return _attended(attention, picture)
    from matplotlib.figure import Figure

    weights = np.asarray(attention.weights)[:MOST_TOKENS, :MOST_TOKENS]  # [n, S]
    rows, columns = weights.shape
    figure = Figure((1.6 + 0.24 * columns, 1.3 + 0.24 * rows), DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(columns), map(_plain, attention.read[:columns]), rotation=90)
    axes.set_yticks(range(rows), map(_plain, attention.written[:rows]))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_color("#dddddd")
    return figure


def _attended(attention: AttentionMap, picture: ImageData) -> Figure:
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    shown, words = pixels(picture), attention.written[:MOST_GLOWING]
    height, width = shown.shape[:2]
    across = min(len(words), 8)
    down = -(-len(words) // across)
    side = 1.2
    tall = side * min(max(height / width, 0.25), 4)
    figure = Figure((side * across, (tall + 0.25) * down), DPI, layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False).ravel()
    for axes in all_axes:
        axes.set_axis_off()
    place = (-0.5, width - 0.5, height - 0.5, -0.5)
    for axes, word, weights in zip(all_axes, words, attention.weights, strict=False):
        light = np.asarray(weights).reshape(attention.plane)  # [H', W']
        glow = np.full((*light.shape, 4), to_rgba(EDGE))
        glow[..., 3] = 0.75 * light / max(light.max(), 1e-9)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=place)
        axes.imshow(glow, extent=place, interpolation="bilinear")
        axes.set_title(_plain(word), size=8)
    return figure


def pixels(picture: ImageData) -> NDArray[np.uint8]:
    """[H, W] of a grey one, else [H, W, 3]."""
    array = np.frombuffer(picture.data, np.uint8).reshape(picture.shape)
    return array[..., 0] if picture.shape[2] == 1 else array


def padding_share(rows: NDArray[np.int64], edges: Sequence[int]) -> float:
    """The padding's share of all padded tokens if each row is padded to the next of the edges."""
    lengths = np.arange(len(rows))
    padded = int(rows @ np.asarray(edges)[np.searchsorted(edges, lengths)])
    return 1 - int(rows @ lengths) / max(padded, 1)


def _most_confused(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels to show, in their order: all, or those with most rows off the diagonal."""
    if len(counts) <= MOST_LABELS:
        return np.arange(len(counts))
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:MOST_LABELS])


def _plain(token: str) -> str:
    """As it is: a pair of dollars would be read as mathematics."""
    return _short(token.replace("$", r"\$"))


def _short(label: str, most: int = 22) -> str:
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"


def _brief(count: int) -> str:
    """At most five characters or so: 9,876, 98.8k, 988k, 9.88M."""
    if count < 10_000:
        return f"{count:,}"
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12)):
        if count < 999.5 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"
