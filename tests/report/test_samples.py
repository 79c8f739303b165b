"""HTML of samples and mistakes: its content, and that it is complete in itself."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.report.samples import FOLD_CHARACTERS, MAX_TOKENS, render_mistakes, render_page
from pipeline.tasks.base.sample import SAMPLES, AttentionMap, ImageData, Sample, TextSpan

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20
RED = np.zeros((5, 6, 3), np.uint8) + np.array([200, 10, 0], np.uint8)


def embedded_images(html: str) -> list[Image.Image]:
    """Decode the PNG images embedded in a page."""
    encoded = re.findall(r"'data:image/png;base64,([^']+)'", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded]


def test_corpus_text_is_escaped_everywhere() -> None:
    bad = "<script>alert('x')</script>"
    attention = AttentionMap.of([bad], torch.tensor([[1.0]]), read=[bad])
    tagged = [TextSpan(bad, bad), TextSpan(bad)]
    html = render_page(bad, [Sample({bad: bad, "tagged": tagged}, attention=attention)])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2 + 2 + 3 + 4
    assert "<script" not in (mistake := render_mistakes([{bad: bad, "text": bad}]))
    assert mistake.count("&lt;script&gt;") == 3


def test_labeled_spans_are_marked_and_wrong_spans_have_a_sign() -> None:
    spans = [TextSpan("the film", "NP", wrong=True), TextSpan("is"), TextSpan("good", "ADJP")]
    html = render_page("step 1", [Sample({"predicted": spans})])
    assert (
        "<mark class='e1 wrong'>the film<b>✗ NP</b></mark> is "
        "<mark class='e0'>good<b>ADJP</b></mark>"
    ) in html
    assert "A dashed frame and ✗ mark an entity" in html
    assert "dashed frame" not in render_page("step 1", [Sample({"given": "text"})])


def test_a_label_has_the_same_color_in_all_samples_and_sentences_without_entities_come_last():
    samples = [
        Sample({"true": [TextSpan("nothing here")]}),
        Sample({"true": [TextSpan("Ann", "person"), TextSpan("Oslo", "city")]}),
        Sample({"true": [TextSpan("Bob", "person")]}),
    ]
    html = render_page("step 1", samples)
    assert re.findall(r"class='(e\d)'>(\w+)<", html) == [
        ("e1", "Ann"),
        ("e0", "Oslo"),
        ("e1", "Bob"),
    ]
    assert html.index("Bob") < html.index("nothing here")


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


def test_attention_has_generated_tokens_as_rows_and_source_tokens_as_columns() -> None:
    weights = torch.tensor([[0.9, 0.1], [0.25, 0.75]])
    attention = AttentionMap.of(["ein", "Haus"], weights, read=["a", "house"])
    assert attention.weights == [[0.9, 0.1], [0.25, 0.75]]
    html = render_page("step 1", [Sample({}, attention=attention)])
    cells = re.findall(r'fill-opacity="([\d.]+)"><title>([^<]+)</title>', html)
    assert cells == [
        ("0.90", "ein → a: 90.0%"),
        ("0.10", "ein → house: 10.0%"),
        ("0.25", "Haus → a: 25.0%"),
        ("0.75", "Haus → house: 75.0%"),
    ]


def test_attention_of_a_long_text_is_truncated_and_that_of_an_empty_one_is_left_out() -> None:
    tokens = [f"t{i}" for i in range(MAX_TOKENS + 9)]
    weights = torch.full((len(tokens), len(tokens)), 1 / len(tokens))
    html = render_page(
        "step 1", [Sample({}, attention=AttentionMap.of(tokens, weights, read=tokens))]
    )
    assert html.count('class="cell"') == MAX_TOKENS**2
    empty = AttentionMap.of([], torch.zeros(0, 2), read=["a", "x"])  # the generated text is empty
    assert "<svg" not in render_page("step 1", [Sample({}, attention=empty)])


def test_attention_over_an_image_highlights_the_attended_regions() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.5, 0.0, 0.0]])
    attention = AttentionMap.of(["dog"], weights, plane=(2, 3))
    image = ImageData.of(np.zeros((20, 30, 3), np.uint8))
    html = render_page("step 1", [Sample({}, image, attention)])
    assert len(embedded_images(html)) == 2  # the image, and the copy below the regions
    regions = re.findall(r"<rect x='([\d.]+)' y='([\d.]+)' .*? fill-opacity='([\d.]+)'/>", html)
    assert regions == [("10.00", "0.00", "0.75"), ("0.00", "10.00", "0.38")]


def test_a_mistake_has_its_short_values_in_one_line_and_its_text_below() -> None:
    html = render_mistakes([{"text": "Fine.", "label": "bad", "predicted": "good", "loss": 4.25}])
    assert re.findall(r"<dt>(\w+)</dt><dd dir='auto'>([\w.]+)</dd>", html) == [
        ("label", "bad"),
        ("predicted", "good"),
        ("loss", "4.25"),
    ]
    assert "<div class='text'><span dir='auto'>Fine.</span></div>" in html


def test_a_long_text_is_folded_and_complete() -> None:
    text = "word " * FOLD_CHARACTERS
    html = render_mistakes([{"text": text}])
    summary, _, whole = html.partition("</summary>")
    assert summary.endswith("...")
    assert text in whole
