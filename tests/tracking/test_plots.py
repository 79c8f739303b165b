"""Plots: their content, not their appearance."""

import io
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from pipeline.tasks.base.confusion import MAX_CONFUSED
from pipeline.tracking.plots import (
    _format_count,
    confusion_matrix,
    length_histogram,
    padding_share,
    scatter,
)


def cell_texts(figure):
    """The texts in the cells of a confusion matrix, by (true, predicted)."""
    (axes,) = figure.axes
    return {
        (text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts
    }


def image_values(image):
    """The values of an image in a plot."""
    array = image.get_array()
    assert array is not None
    return array


def tick_labels(figure):
    (axes,) = figure.axes
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_confusion_matrix_shows_counts_and_their_shares_of_the_matrix_row():
    figure = confusion_matrix([[30, 10], [0, 60]], ["negative", "positive"], "step 7")
    assert cell_texts(figure) == {
        (0, 0): "30\n75.0%",
        (0, 1): "10\n25.0%",
        (1, 0): "0",
        (1, 1): "60\n100.0%",
    }
    (axes,) = figure.axes
    assert axes.get_title() == "step 7: 90.0% of 100 rows correct"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert tick_labels(figure) == ["negative", "positive"]
    np.testing.assert_allclose(image_values(axes.images[0]), [[0.75, 0.25], [0.0, 1.0]])


def test_the_title_says_how_many_labels_are_not_in_the_table():
    labels = [*(f"c{n}" for n in range(50)), "8,950 others"]
    table = np.diag(np.full(51, 10))
    figure = confusion_matrix(table.tolist(), labels, "step 1", left_out=8950, accuracy=0.25)
    title = figure.axes[0].get_title()
    assert title.startswith("step 1: 25.0% of 510 rows correct")
    assert "20 most confused of the 50 most frequent of 9,000 labels" in title


def test_the_title_names_what_is_counted():
    (axes,) = confusion_matrix([[1]], ["a"], "step 7", "words").axes
    assert axes.get_title() == "step 7: 100.0% of 1 words correct"


@pytest.mark.parametrize("labels", [2, 3, 5, 12, 20])
def test_texts_fit_into_the_cells_of_a_confusion_matrix(labels):
    table = np.full((labels, labels), 123_456).tolist()
    names = [f"a long name of label {i}" for i in range(labels)]
    figure = confusion_matrix(table, names, "step 1")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    size = (axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))).__abs__()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width < size[0]
        assert box.height < size[1]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))


def test_a_large_confusion_matrix_shows_the_most_confused_labels_and_says_so():
    n, pair = 50, (7, 41)
    table = np.diag(np.full(n, 100))
    table[pair] = 300
    figure = confusion_matrix(table.tolist(), [f"c{i}" for i in range(n)], "step 1")
    shown = tick_labels(figure)
    assert len(shown) == MAX_CONFUSED
    assert {"c7", "c41"} <= set(shown)
    assert "20 most confused of 50 labels" in figure.axes[0].get_title()
    assert cell_texts(figure)[shown.index("c7"), shown.index("c41")] == "300\n75.0%"


def test_a_label_without_rows_shows_no_shares():
    figure = confusion_matrix([[5, 0], [0, 0]], ["a", "b"], "step 1")
    assert cell_texts(figure)[1, 1] == "0"


def test_a_table_that_does_not_match_its_labels_raises():
    with pytest.raises(ValueError, match="3 labels"):
        confusion_matrix([[1, 2], [3, 4]], ["a", "b", "c"], "step 1")


@pytest.mark.parametrize("longest", [1, 99, 100, 400, 30_000])
def test_each_row_is_counted_in_one_bar(longest):
    rows = np.bincount(np.random.default_rng(0).integers(1, longest + 1, 5000))
    edges = sorted({len(rows) - 1, *range(8, len(rows) - 1, 8)})
    (axes,) = length_histogram(rows, edges).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sum(bar.get_height() for bar in bars) == 5000
    assert len(axes.patches) <= 100
    (edge_lines,) = axes.collections
    assert isinstance(edge_lines, LineCollection)
    assert [segment[0][0] for segment in edge_lines.get_segments()] == edges


def test_padding_share_counts_padding_up_to_the_next_edge():
    rows = np.bincount([3, 8, 9, 16])
    assert padding_share(rows, [8, 16]) == 1 - 36 / 48
    title = length_histogram(rows, [8, 16]).axes[0].get_title()
    assert title == "4 rows, 36 tokens; padding to bucket edges: 25.0%"


def test_the_title_of_a_sampled_histogram_gives_the_total():
    (axes,) = length_histogram([0, 5], [8], total=20).axes
    assert axes.get_title().startswith("5 of 20 rows")


@pytest.mark.parametrize(("rows", "edges"), [([0, 0], [8]), ([0, 0, 1], [1])])
def test_a_histogram_without_rows_or_with_rows_past_its_edges_raises(rows, edges):
    with pytest.raises(ValueError):
        length_histogram(rows, edges)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9999, "9,999"), (98_765, "98.8k"), (999_600, "1M"), (5.55e9, "5.55G")],
)
def test_counts_are_abbreviated(count, text):
    assert _format_count(count) == text


def test_plots_need_no_display():
    image = io.BytesIO()
    confusion_matrix([[1, 2], [3, 4]], ["a", "b"], "step 1").savefig(image, format="png")
    assert image.getvalue().startswith(b"\x89PNG")
    assert len(image.getvalue()) > 5000


def test_a_scatter_plot_shows_each_finite_point_and_the_diagonal():
    points = [(1.0, 2.0), (3.0, -1.0), (2.0, float("nan"))]
    (axes,) = scatter(points, "step 5").axes
    (collection,) = axes.collections
    assert np.asarray(collection.get_offsets()).tolist() == [[1.0, 2.0], [3.0, -1.0]]
    (line,) = axes.lines
    assert np.asarray(line.get_xydata()).tolist() == [[-1.0, -1.0], [3.0, 3.0]]
    assert axes.get_title() == "step 5: 2 rows"


def test_a_scatter_plot_without_points_is_empty():
    (axes,) = scatter([], "step 5").axes
    assert not axes.lines
