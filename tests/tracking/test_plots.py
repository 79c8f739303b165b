"""Figures: what is on them, not what they look like."""

import io
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import torch

from pipeline.tasks.sample import AttentionMap, ImageData
from pipeline.tracking.plots import (
    MOST_LABELS,
    MOST_TOKENS,
    _brief,
    attention,
    confusion_matrix,
    length_histogram,
    padding_share,
)


def cells(figure):
    """The texts inside a confusion matrix by (true, predicted)."""
    (axes,) = figure.axes
    return {
        (text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts
    }


def ticks(figure):
    (axes,) = figure.axes
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_confusion_matrix_shows_counts_and_shares_of_rows():
    figure = confusion_matrix([[30, 10], [0, 60]], ["negative", "positive"], "step 7")
    assert cells(figure) == {
        (0, 0): "30\n75.0%",
        (0, 1): "10\n25.0%",
        (1, 0): "0",
        (1, 1): "60\n100.0%",
    }
    (axes,) = figure.axes
    assert axes.get_title() == "step 7: 90.0% of 100 rows correct"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert ticks(figure) == ["negative", "positive"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])


def test_the_title_says_what_is_counted():
    (axes,) = confusion_matrix([[1]], ["a"], "step 7", "words").axes
    assert axes.get_title() == "step 7: 100.0% of 1 words correct"


@pytest.mark.parametrize("labels", [2, 3, 5, 12, 20])
def test_no_text_of_a_confusion_matrix_leaves_its_cell(labels):
    table = np.full((labels, labels), 123_456)
    figure = confusion_matrix(table, [f"a long name of label {i}" for i in range(labels)], "step 1")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    size = (axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))).__abs__()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width < size[0]
        assert box.height < size[1]
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(names))


def test_of_many_labels_the_most_confused_are_shown_and_the_title_says_so():
    n, pair = 50, (7, 41)
    table = np.diag(np.full(n, 100))
    table[pair] = 300
    figure = confusion_matrix(table, [f"c{i}" for i in range(n)], "step 1")
    shown = ticks(figure)
    assert len(shown) == MOST_LABELS
    assert {"c7", "c41"} <= set(shown)
    assert "the 20 most confused of 50 labels" in figure.axes[0].get_title()
    assert cells(figure)[shown.index("c7"), shown.index("c41")] == "300\n75.0%"


def test_a_label_without_rows_has_no_shares():
    figure = confusion_matrix([[5, 0], [0, 0]], ["a", "b"], "step 1")
    assert cells(figure)[1, 1] == "0"


def test_a_table_that_does_not_match_its_labels_is_refused():
    with pytest.raises(ValueError, match="3 labels"):
        confusion_matrix([[1, 2], [3, 4]], ["a", "b", "c"], "step 1")


@pytest.mark.parametrize("longest", [1, 99, 100, 400, 30_000])
def test_every_row_is_in_one_bar(longest):
    rows = np.bincount(np.random.default_rng(0).integers(1, longest + 1, 5000))
    edges = sorted({len(rows) - 1, *range(8, len(rows) - 1, 8)})
    (axes,) = length_histogram(rows, edges).axes
    assert sum(bar.get_height() for bar in axes.patches) == 5000
    assert len(axes.patches) <= 100
    (marks,) = axes.collections
    assert [segment[0][0] for segment in marks.get_segments()] == edges


def test_padding_is_measured_against_the_next_edge():
    rows = np.bincount([3, 8, 9, 16])
    assert padding_share(rows, [8, 16]) == 1 - 36 / 48
    title = length_histogram(rows, [8, 16]).axes[0].get_title()
    assert title == "4 rows, 36 tokens; padding to the edges of buckets: 25.0%"


def test_a_sample_says_so():
    (axes,) = length_histogram([0, 5], [8], total=20).axes
    assert axes.get_title().startswith("5 of 20 rows")


@pytest.mark.parametrize(("rows", "edges"), [([0, 0], [8]), ([0, 0, 1], [1])])
def test_a_histogram_of_nothing_or_past_its_edges_is_refused(rows, edges):
    with pytest.raises(ValueError):
        length_histogram(rows, edges)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9999, "9,999"), (98_765, "98.8k"), (999_600, "1M"), (5.55e9, "5.55G")],
)
def test_counts_are_brief(count, text):
    assert _brief(count) == text


def test_figures_are_drawn_without_a_display():
    image = io.BytesIO()
    confusion_matrix([[1, 2], [3, 4]], ["a", "b"], "step 1").savefig(image, format="png")
    assert image.getvalue().startswith(b"\x89PNG")
    assert len(image.getvalue()) > 5000


def drawn(n, read):
    draw = np.random.default_rng(0)
    weights = torch.from_numpy(draw.dirichlet(np.ones(read), n))
    words = [f"w{i}" for i in range(n)]
    return AttentionMap.of(words, weights, read=[f"r{i}" for i in range(read)]), weights.numpy()


def test_attention_has_what_was_read_across_and_what_was_written_down():
    told, weights = drawn(3, 5)
    (axes,) = attention(told).axes
    np.testing.assert_allclose(axes.images[0].get_array(), weights, atol=5e-4)
    assert [t.get_text() for t in axes.get_xticklabels()] == told.read
    assert [t.get_text() for t in axes.get_yticklabels()] == told.written


def test_attention_of_long_texts_is_cut_and_dollars_are_no_mathematics():
    told, _ = drawn(MOST_TOKENS + 9, MOST_TOKENS + 1)
    told.written[0] = "$a_"
    told.written[1] = "$b$"
    figure = attention(told)
    figure.savefig(io.BytesIO())
    assert figure.axes[0].images[0].get_array().shape == (MOST_TOKENS, MOST_TOKENS)


def test_attention_over_a_picture_glows_where_it_was_looked_at():
    pixels = np.full((8, 12, 1), 200, np.uint8)
    weights = torch.zeros(3, 6)
    weights[[0, 1, 2], [0, 5, 3]] = 1
    figure = attention(
        AttentionMap.of(["a", "b", "c"], weights, plane=(2, 3)), ImageData.of(pixels)
    )
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    for axes, place in zip(figure.axes, ((0, 0), (1, 2), (1, 0)), strict=True):
        picture, glow = axes.images
        assert picture.get_array().shape == (8, 12)
        light = glow.get_array()[..., 3]  # [2, 3]
        assert light[place] > 0.5
        assert np.count_nonzero(light) == 1
        assert picture.get_extent() == glow.get_extent()
