"""Pages of samples: what stands on them, and that they stand alone."""

import base64
import io
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import torch
from PIL import Image

from pipeline.tasks.sample import SAMPLES, AttentionMap, ImageData, Sample, TextSpan
from pipeline.tracking.html_report import page

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20
RED = np.zeros((5, 6, 3), np.uint8) + np.array([200, 10, 0], np.uint8)


def images(html: str) -> list[Image.Image]:
    """The pictures in a page, by their pixels."""
    found = re.findall(r"src='data:image/png;base64,([^']+)'", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_what_a_corpus_holds_is_escaped_wherever_it_stands() -> None:
    bad = "<script>alert('x')</script>"
    sample = Sample({bad: bad, "tagged": [TextSpan(bad, bad), TextSpan(bad)]})
    html = page(bad, [sample])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2 + 2 + 3


def test_pieces_are_marked_and_those_that_are_wrong_stand_out() -> None:
    pieces = [TextSpan("the film", "NP", wrong=True), TextSpan("is"), TextSpan("good", "ADJP")]
    html = page("step 1", [Sample({"predicted": pieces})])
    assert (
        "<dd><mark class='wrong'>the film<b>NP</b></mark> is <mark>good<b>ADJP</b></mark></dd>"
    ) in html


@pytest.mark.parametrize("pixels", [GREY, RED], ids=["grey", "colors"])
def test_a_picture_comes_through_json_onto_the_page(pixels: np.ndarray) -> None:
    samples = [Sample({"label": "3"}, ImageData.of(pixels))]
    back = SAMPLES.validate_json(SAMPLES.dump_json(samples))
    assert back == samples
    (image,) = images(page("step 1", back))
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_photograph_is_shown_small() -> None:
    pixels = np.arange(300 * 200 * 3, dtype=np.uint8).reshape(300, 200, 3)
    picture = ImageData.of(pixels)
    assert picture.shape == (100, 67, 3)
    assert picture.data == pixels[::3, ::3].tobytes()


def test_a_picture_that_is_a_view_does_not_keep_what_it_is_a_view_of() -> None:
    batch = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4, 1)
    picture = ImageData.of(batch[1])
    batch.zero_()
    assert picture.data == bytes(range(12, 24))


def test_attention_is_a_figure_of_its_own() -> None:
    weights = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    attention = AttentionMap.of(["ein", "$x$"], weights, read=["a", "x"])
    assert attention.weights == [[0.9, 0.1], [0.25, 0.75]]
    assert len(images(page("step 1", [Sample({}, attention=attention)]))) == 1
    nothing = AttentionMap.of([], torch.zeros(0, 2), read=["a", "x"])  # an empty text was written
    assert images(page("step 1", [Sample({}, attention=nothing)])) == []
