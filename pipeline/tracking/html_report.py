"""Self-contained HTML pages of samples; images and plots are embedded as PNG.

All text that comes from a corpus is escaped.
"""

import base64
import io
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from pipeline.tasks.base.sample import ImageData, Sample, TextSpan
from pipeline.tracking import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 14px/1.6 system-ui, sans-serif; color: #222; margin: 1em; }
main { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }
article { border: 1px solid #ddd; border-radius: 6px; padding: .6em .9em; max-width: 60em; }
article.image:not(.attention) { max-width: 15em; }
article.image dl { display: grid; grid-template-columns: auto 1fr; column-gap: .6em; }
dl { margin: 0; }
dt { color: #777; font-size: 12px; }
dd { margin: 0 0 .2em; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: #d9e6f2; border-radius: 3px; padding: 0 .25em; }
mark.wrong { background: #f6d2bd; }
mark b { color: #777; font-size: 10px; font-weight: normal; margin-left: .3em; }
img { display: block; max-width: 100%; margin-bottom: .4em; }
img.pixels { min-width: 8em; image-rendering: pixelated; }
"""


def render_page(title: str, samples: Sequence[Sample]) -> str:
    """Render one article per sample: its image, its named texts and its attention map."""
    articles = "\n".join(map(_render_sample, samples))
    return (
        f"<!doctype html>\n<html><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n"
        f"<body><h3>{escape(title)}</h3>\n<main>\n{articles}\n</main></body></html>\n"
    )


def _render_sample(sample: Sample) -> str:
    image = sample.picture
    parts = [_render_image(image)] if image else []
    parts.append("<dl>")
    for name, text in sample.texts.items():
        html = escape(text) if isinstance(text, str) else _render_spans(text)
        parts.append(f"<dt>{escape(name)}</dt><dd>{html}</dd>")
    parts.append("</dl>")
    if sample.attention and sample.attention.written:
        parts.append(_render_plot(plots.attention(sample.attention, image)))
    css_classes = ["image"] * bool(image) + ["attention"] * bool(sample.attention)
    return f"<article class='{' '.join(css_classes)}'>{''.join(parts)}</article>"


def _render_spans(spans: Iterable[TextSpan]) -> str:
    return " ".join(map(_render_span, spans))


def _render_span(span: TextSpan) -> str:
    text, css_class = escape(span.text), " class='wrong'" * span.wrong
    return f"<mark{css_class}>{text}<b>{escape(span.label)}</b></mark>" if span.label else text


def _render_image(image: ImageData) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(plots.pixels(image)).save(file, "PNG")
    return _img_tag(file.getvalue(), "pixels")


def _render_plot(figure: "Figure") -> str:
    file = io.BytesIO()
    warnings.filterwarnings("ignore", "Glyph .* missing")  # matplotlib draws a box instead
    figure.savefig(file, format="png")
    return _img_tag(file.getvalue(), "plot")


def _img_tag(png: bytes, css_class: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<img class='{css_class}' src='data:image/png;base64,{data}'>"
