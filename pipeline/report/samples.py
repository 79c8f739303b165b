"""HTML of samples and mistakes, for `report.html` and for the pages of the trackers.

Images are embedded as PNG and attention maps as SVG, so a fragment needs no other file. All text
that comes from a corpus is escaped.
"""

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.report import svg
from pipeline.report.numbers import format_number
from pipeline.report.style import ENTITY_COLORS, STYLE
from pipeline.tasks.base.sample import AttentionMap, ImageData, Sample, TextSpan
from pipeline.wording import shorten

MAX_TOKENS = 50
"""Maximum number of source tokens, and of generated tokens, in an attention map."""
MAX_OVERLAYS = 16
"""Generated tokens shown as overlays on copies of an image."""
FOLD_CHARACTERS = 500
"""Length above which a text is folded: only its beginning is shown until the reader opens it."""
FACT_CHARACTERS = 40
"""Maximum length of a value in the first line of a mistake."""


def render_page(title: str, samples: Sequence[Sample]) -> str:
    """Return a self-contained page of samples."""
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}"
        f"</title>\n<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{STYLE}</style></head>\n<body><main><h2>{escape(title)}</h2>\n"
        f"{render_samples(samples)}\n</main></body></html>\n"
    )


def render_samples(samples: Sequence[Sample]) -> str:
    """Return one article per sample: its image, its named texts and its attention map.

    Of tagged samples, those without an entity come last.
    """
    colors = _entity_colors(samples)
    samples = sorted(samples, key=lambda sample: bool(colors) and not _entity_colors([sample]))
    articles = "\n".join(
        _render_sample(sample, colors, is_open=i == 0) for i, sample in enumerate(samples)
    )
    key = ""
    if any(span.wrong for sample in samples for span in _spans(sample)):
        key = (
            "<p class='hint'>A dashed frame and ✗ mark an entity that is missing in the other "
            "line.</p>"
        )
    only_images = all(sample.picture and not sample.attention for sample in samples)
    return f"{key}<div class='samples{' images' * only_images}'>\n{articles}\n</div>"


def render_mistakes(mistakes: Sequence[Mapping[str, Any]]) -> str:
    """Return one article per mistake: first a line with its short values, then its texts."""
    return f"<div class='samples'>\n{''.join(map(_render_mistake, mistakes))}\n</div>"


def render_text(text: str) -> str:
    """Return a text from a corpus, escaped. A long one is folded."""
    if not text:
        return "<span class='dim'>(empty)</span>"
    if len(text) <= FOLD_CHARACTERS:
        return f"<span dir='auto'>{escape(text)}</span>"
    beginning = shorten(text, FOLD_CHARACTERS * 2 // 3)
    return (
        f"<details class='text'><summary dir='auto'>{escape(beginning)}</summary>"
        f"<span dir='auto'>{escape(text)}</span></details>"
    )


def _render_mistake(row: Mapping[str, Any]) -> str:
    facts, texts = [], []
    for name, value in row.items():
        text = format_number(value) if isinstance(value, (int, float)) else str(value)
        if name == "text" or len(text) > FACT_CHARACTERS:
            texts.append((name, text))
        else:
            facts.append(f"<div><dt>{escape(name)}</dt><dd dir='auto'>{escape(text)}</dd></div>")
    line = f"<dl class='facts'>{''.join(facts)}</dl>" if facts else ""
    if len(texts) == 1:
        return f"<article>{line}<div class='text'>{render_text(texts[0][1])}</div></article>\n"
    return f"<article>{line}{_render_texts(dict(texts))}</article>\n"


def _render_sample(sample: Sample, colors: Mapping[str, int], *, is_open: bool) -> str:
    image, attention = sample.picture, sample.attention
    parts = [_render_image(image)] if image else []
    parts.append(_render_texts(sample.texts, colors))
    if attention and attention.written:
        parts.append(_render_attention(attention, image, is_open=is_open))
    return f"<article>{''.join(parts)}</article>"


def _render_texts(
    texts: Mapping[str, str | list[TextSpan]], colors: Mapping[str, int] | None = None
) -> str:
    parts = []
    for name, text in texts.items():
        html = render_text(text) if isinstance(text, str) else _render_spans(text, colors or {})
        parts.append(f"<dt>{escape(name)}</dt><dd>{html}</dd>")
    return f"<dl class='texts'>{''.join(parts)}</dl>" if parts else ""


def _entity_colors(samples: Sequence[Sample]) -> dict[str, int]:
    """Return a color number for each span label."""
    labels = {span.label for sample in samples for span in _spans(sample) if span.label}
    return {label: i % ENTITY_COLORS for i, label in enumerate(sorted(labels))}


def _spans(sample: Sample) -> list[TextSpan]:
    return [span for text in sample.texts.values() if not isinstance(text, str) for span in text]


def _render_spans(spans: Iterable[TextSpan], colors: Mapping[str, int]) -> str:
    spans_html = " ".join(_render_span(span, colors) for span in spans)
    return f"<span class='tagged' dir='auto'>{spans_html}</span>"


def _render_span(span: TextSpan, colors: Mapping[str, int]) -> str:
    text = escape(span.text)
    if not span.label:
        return text
    wrong, sign = (" wrong", "✗ ") if span.wrong else ("", "")
    return (
        f"<mark class='e{colors.get(span.label, 0)}{wrong}'>{text}"
        f"<b>{sign}{escape(span.label)}</b></mark>"
    )


def _render_image(image: ImageData) -> str:
    return f"<img class='pixels' alt='' src='{_png_uri(image)}'>"


def _png_uri(image: ImageData) -> str:
    """Return an 8-bit image as a data URI."""
    height, width, channels = image.shape
    stride = width * channels
    lines = b"".join(b"\0" + image.data[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _render_attention(attention: AttentionMap, image: ImageData | None, *, is_open: bool) -> str:
    """Return the attention of a decoder for each generated token, folded unless `is_open`.

    Over a text: a heat map with one column per source token and one row per generated token, at
    most MAX_TOKENS of each. Over an image: a copy of it for each of the first MAX_OVERLAYS
    generated tokens, with the attended regions highlighted (Xu et al. 2015).
    """
    if image and attention.plane != (0, 0):
        drawn = f"<div class='overlays'>{_render_overlays(attention, image)}</div>"
    else:
        weights = [row[:MAX_TOKENS] for row in attention.weights[:MAX_TOKENS]]
        written, read = attention.written[:MAX_TOKENS], attention.read[:MAX_TOKENS]
        title = "attention of each generated token (rows) to each source token (columns)"
        drawn = svg.heat_map(written, read, weights, title=title, cell=18)
    return (
        f"<details class='attention'{' open' * is_open}><summary>attention</summary>"
        f"<div class='wide' tabindex='0'>{drawn}</div></details>"
    )


def _render_overlays(attention: AttentionMap, image: ImageData) -> str:
    height, width = image.shape[:2]
    rows, columns = attention.plane
    uri, parts = _png_uri(image), []
    for token, weights in list(zip(attention.written, attention.weights, strict=True))[
        :MAX_OVERLAYS
    ]:
        most = max(*weights, 1e-9)
        cells = "".join(
            f"<rect x='{i % columns / columns * width:.2f}' y='{i // columns / rows * height:.2f}' "
            f"width='{width / columns:.2f}' height='{height / rows:.2f}' "
            f"fill-opacity='{0.75 * weight / most:.2f}'/>"
            for i, weight in enumerate(weights)
            if weight > 0.02 * most
        )
        parts.append(
            f"<figure><svg viewBox='0 0 {width} {height}' width='96' role='img' "
            f"aria-label='{escape(token)}'><image href='{uri}' width='{width}' "
            f"height='{height}'/><g class='overlay'>{cells}</g></svg>"
            f"<figcaption dir='auto'>{escape(token)}</figcaption></figure>"
        )
    return "".join(parts)
