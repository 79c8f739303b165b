"""HTML pages of samples: their content, and that they are self-contained."""

import base64
import io
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import torch
from PIL import Image

from pipeline.tasks.base.sample import SAMPLES, AttentionMap, ImageData, Sample, TextSpan
from pipeline.tracking.html_report import render_page

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20
RED = np.zeros((5, 6, 3), np.uint8) + np.array([200, 10, 0], np.uint8)


def embedded_images(html: str) -> list[Image.Image]:
    """Decode the PNG images embedded in a page."""
    encoded = re.findall(r"src='data:image/png;base64,([^']+)'", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]


def test_corpus_text_is_escaped_everywhere() -> None:
    bad = "<script>alert('x')</script>"
    sample = Sample({bad: bad, "tagged": [TextSpan(bad, bad), TextSpan(bad)]})
    html = render_page(bad, [sample])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2 + 2 + 3


def test_labeled_spans_are_marked_and_wrong_spans_are_highlighted() -> None:
    spans = [TextSpan("the film", "NP", wrong=True), TextSpan("is"), TextSpan("good", "ADJP")]
    html = render_page("step 1", [Sample({"predicted": spans})])
    assert (
        "<dd><mark class='wrong'>the film<b>NP</b></mark> is <mark>good<b>ADJP</b></mark></dd>"
    ) in html


@pytest.mark.parametrize("pixels", [GRAY, RED], ids=["gray", "colors"])
def test_an_image_survives_the_way_through_json_to_the_page(pixels: np.ndarray) -> None:
    samples = [Sample({"label": "3"}, ImageData.of(pixels))]
    loaded = SAMPLES.validate_json(SAMPLES.dump_json(samples))
    assert loaded == samples
    (image,) = embedded_images(render_page("step 1", loaded))
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_large_image_is_downsampled() -> None:
    pixels = np.arange(300 * 200 * 3, dtype=np.uint8).reshape(300, 200, 3)
    image = ImageData.of(pixels)
    assert image.shape == (100, 67, 3)
    assert image.data == pixels[::3, ::3].tobytes()


def test_image_data_is_a_copy_of_the_batch() -> None:
    batch = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4, 1)
    image = ImageData.of(batch[1])
    batch.zero_()
    assert image.data == bytes(range(12, 24))


def test_attention_is_drawn_as_a_separate_image() -> None:
    weights = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    attention = AttentionMap.of(["ein", "$x$"], weights, read=["a", "x"])
    assert attention.weights == [[0.9, 0.1], [0.25, 0.75]]
    assert len(embedded_images(render_page("step 1", [Sample({}, attention=attention)]))) == 1
    empty = AttentionMap.of([], torch.zeros(0, 2), read=["a", "x"])  # the generated text is empty
    assert embedded_images(render_page("step 1", [Sample({}, attention=empty)])) == []
