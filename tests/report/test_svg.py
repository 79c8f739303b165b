"""Charts: where their points are, what they say to a screen reader, and their edge cases."""

import re
from xml.etree import ElementTree

import pytest

from pipeline.report import svg
from pipeline.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line


def parse(chart: str) -> ElementTree.Element:
    root = ElementTree.fromstring(chart)
    assert root.get("role") == "img"
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter("text")]


def points(root: ElementTree.Element) -> list[tuple[float, float]]:
    (line,) = root.iter("polyline")
    numbers = [float(x) for x in re.findall(r"[\d.]+", line.get("points") or "")]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_line_spans_the_plot_area() -> None:
    root = parse(svg.line_chart([Line("loss", [(0, 1.0), (50, 2.0), (100, 3.0)])], title="loss"))
    assert root.get("aria-label") == "loss"
    (x0, y0), (x1, y1), (x2, y2) = points(root)
    assert (x0, x2) == (LEFT, WIDTH - RIGHT)
    assert x1 == pytest.approx((x0 + x2) / 2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert HEIGHT - BOTTOM > y0 > y2 > TOP  # with a small margin
    assert {"0", "25", "50", "75", "100", "step", "1", "3"} <= set(texts(root))


def test_values_of_very_different_size_have_a_logarithmic_scale() -> None:
    line = Line("perplexity", [(1, 10_000.0), (2, 1000.0), (3, 100.0)])
    root = parse(svg.line_chart([line], title=""))
    (_, y0), (_, y1), (_, y2) = points(root)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert {"log scale", "100", "1k", "10k"} <= set(texts(root))
    assert "log scale" not in svg.line_chart([line], title="", may_be_log=False)
    accuracy = Line("accuracy", [(1, 0.01), (2, 0.9)])
    assert "log scale" not in svg.line_chart([accuracy], title="")


def test_a_line_that_ends_early_leaves_space_up_to_the_last_step() -> None:
    (_, _), (x, _) = points(
        parse(svg.line_chart([Line("a", [(0, 1.0), (50, 2.0)])], title="", last_step=100))
    )
    assert x == pytest.approx((LEFT + WIDTH - RIGHT) / 2)


def test_two_lines_are_named_and_differ_in_more_than_color() -> None:
    lines = [Line("training", [(1, 1.0), (2, 0.5)]), Line("validation", [(2, 0.6)], dashed=True)]
    chart = svg.line_chart(lines, title="loss", best=(2, 0.6))
    assert {"training", "validation"} <= set(texts(parse(chart)))
    assert chart.count("stroke-dasharray") == 2  # the line and its sample beside the name
    assert chart.count('class="best"') == 1


def test_a_long_line_is_averaged() -> None:
    root = parse(svg.line_chart([Line("a", [(i, i % 2) for i in range(1000)])], title=""))
    drawn = points(root)
    assert len(drawn) == svg.MAX_POINTS
    assert drawn[-1][0] == WIDTH - RIGHT
    assert len({y for _, y in drawn}) <= 2  # of five neighbors, two or three are 1


@pytest.mark.parametrize("values", [[(1, 2.0)], [(0, 0.0)], [(1, 5.0), (2, 5.0)]])
def test_one_point_and_a_constant_are_drawn(values: list[tuple[float, float]]) -> None:
    drawn = points(parse(svg.line_chart([Line("a", values)], title="")))
    assert len(drawn) == len(values)
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in drawn)


def test_charts_without_data_are_empty() -> None:
    assert svg.line_chart([Line("a", [])], title="") == ""
    assert svg.bar_chart([], [], title="", x_label="", y_label="") == ""
    assert svg.reliability([], title="") == ""
    assert svg.scatter([], title="") == ""


def test_bars_have_heights_in_proportion_and_say_their_values() -> None:
    chart = svg.bar_chart(
        ["1", "2-3"], [1.0, 4.0], title="", x_label="tokens", y_label="loss", notes=["7 rows", "9"]
    )
    bars = list(parse(chart).iter("rect"))
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.02)
    assert [bar.findtext("title") for bar in bars] == ["1 tokens: 1, 7 rows", "2-3 tokens: 4, 9"]


def test_labels_of_many_bars_do_not_overlap() -> None:
    labels = [f"{2**i}-{2 ** (i + 1) - 1}" for i in range(16)]
    root = parse(svg.bar_chart(labels, [1.0] * 16, title="", x_label="", y_label=""))
    shown = [text for text in texts(root) if text in labels]
    assert sum(len(text) for text in shown) * 6 < WIDTH - LEFT - RIGHT


def test_reliability_is_on_the_diagonal_if_probabilities_are_right() -> None:
    root = parse(svg.reliability([(0.5, 0.5, 10), (0.9, 0.9, 40)], title=""))
    (ideal,) = (line for line in root.iter("line") if line.get("class") == "ideal")
    x1, y1, x2, y2 = (float(ideal.get(name) or 0) for name in ("x1", "y1", "x2", "y2"))
    for x, y in points(root):
        assert (y - y1) / (y2 - y1) == pytest.approx((x - x1) / (x2 - x1), abs=0.01)
    small, large = (float(dot.get("r") or 0) for dot in root.iter("circle"))
    assert small < large
    assert (
        "mean probability 0.900, accuracy 0.900, 40 predictions"
        in ElementTree.tostring(root).decode()
    )


def test_a_scatter_plot_has_equal_scales() -> None:
    root = parse(svg.scatter([(-5.0, 5.0), (5.0, -5.0)], title=""))
    a, b = ((float(c.get("cx") or 0), float(c.get("cy") or 0)) for c in root.iter("circle"))
    assert (a[0] < b[0], a[1] < b[1]) == (True, True)


def test_a_heat_map_has_the_counts_and_escapes_labels() -> None:
    chart = svg.heat_map(
        ["a", "<b>"], ["a", "<b>"], [[0.9, 0.1], [0.0, 0.0]], [["9", "1"], ["", ""]],
        title="", diagonal=True,
    )  # fmt: skip
    root = parse(chart)
    cells = [(c.get("class"), c.get("fill-opacity")) for c in root.iter("rect")]
    assert cells == [("cell same", "0.90"), ("cell", "0.10"), ("cell same", "0.00")]
    assert texts(root).count("<b>") == 2
    shades = {t.text: t.get("class") for t in root.iter("text") if t.get("class")}
    assert shades == {"9": "on-dark", "1": "on-light"}


def test_long_labels_of_columns_are_rotated_and_inside_the_image() -> None:
    names = ["a", "a-very-long-label"]
    root = parse(svg.heat_map(names, names, [[1.0, 0.0], [0.0, 1.0]], title=""))
    rotated = [t for t in root.iter("text") if t.get("transform")]
    assert [t.text for t in rotated] == names
    last = rotated[-1]
    length = 6.2 * len(names[-1]) * 0.71  # of the text, along both axes
    assert float(last.get("x") or 0) + length <= float(root.get("width") or 0) + 4
    assert float(last.get("y") or 0) - length >= -4


@pytest.mark.parametrize("low, high", [(0, 1), (0.1, 0.13), (-5, 5), (0, 12345), (3, 3.0001)])
def test_ticks_are_inside_the_range_and_few(low: float, high: float) -> None:
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
