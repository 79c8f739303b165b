"""Samples as a page of HTML that stands alone, with its pictures and figures in it.

Nothing of a corpus reaches the page unescaped.
"""

import base64
import io
import warnings
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from pipeline.tasks.sample import ImageData, Sample, TextSpan
from pipeline.tracking import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 14px/1.6 system-ui, sans-serif; color: #222; margin: 1em; }
main { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }
article { border: 1px solid #ddd; border-radius: 6px; padding: .6em .9em; max-width: 60em; }
article.picture:not(.attention) { max-width: 15em; }
article.picture dl { display: grid; grid-template-columns: auto 1fr; column-gap: .6em; }
dl { margin: 0; }
dt { color: #777; font-size: 12px; }
dd { margin: 0 0 .2em; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: #d9e6f2; border-radius: 3px; padding: 0 .25em; }
mark.wrong { background: #f6d2bd; }
mark b { color: #777; font-size: 10px; font-weight: normal; margin-left: .3em; }
img { display: block; max-width: 100%; margin-bottom: .4em; }
img.pixels { min-width: 8em; image-rendering: pixelated; }
"""


def page(title: str, samples: Sequence[Sample]) -> str:
    articles = "\n".join(map(_article, samples))
    return (
        f"<!doctype html>\n<html><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n"
        f"<body><h3>{escape(title)}</h3>\n<main>\n{articles}\n</main></body></html>\n"
    )


def _article(sample: Sample) -> str:
    parts = [_picture(sample.picture)] if sample.picture else []
    parts.append("<dl>")
    for name, text in sample.texts.items():
        marked = escape(text) if isinstance(text, str) else _pieces(text)
        parts.append(f"<dt>{escape(name)}</dt><dd>{marked}</dd>")
    parts.append("</dl>")
    if sample.attention and sample.attention.written:
        parts.append(_figure(plots.attention(sample.attention, sample.picture)))
    kinds = [name for name in ("picture", "attention") if getattr(sample, name)]
    return f"<article class='{' '.join(kinds)}'>{''.join(parts)}</article>"


def _pieces(pieces: Iterable[TextSpan]) -> str:
    return " ".join(map(_piece, pieces))


def _piece(piece: TextSpan) -> str:
    text, kind = escape(piece.text), " class='wrong'" * piece.wrong
    return f"<mark{kind}>{text}<b>{escape(piece.label)}</b></mark>" if piece.label else text


def _picture(picture: ImageData) -> str:
    from PIL import Image

    image, file = Image.fromarray(plots.pixels(picture)), io.BytesIO()
    image.save(file, "PNG")
    return _image(file.getvalue(), "pixels")


def _figure(figure: "Figure") -> str:
    file = io.BytesIO()
    warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands in its place
    figure.savefig(file, format="png")
    return _image(file.getvalue(), "figure")


def _image(png: bytes, kind: str) -> str:
    return f"<img class='{kind}' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
