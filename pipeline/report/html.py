"""Tables and other parts of a page. Cells are escaped unless they are `Markup`."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.report.numbers import format_share


class Markup(str):
    """HTML that is already escaped."""

    __slots__ = ()


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], texts: int = 1) -> str:
    """Return a table whose first `texts` columns hold texts and the others numbers."""
    classes = [""] * texts + [" class='n'"] * (len(heads) - texts)
    head = "".join(
        f"<th scope='col'{css}>{_cell(name)}</th>" for name, css in zip(heads, classes, strict=True)
    )
    body = []
    for row in rows:
        cells = [
            f"<td{css}{_direction(value)}>{_cell(value)}</td>"
            for value, css in zip(row[1:], classes[1:], strict=True)
        ]
        name = f"<th scope='row'{_direction(row[0])}>{_cell(row[0])}</th>"
        body.append(f"<tr>{name}{''.join(cells)}</tr>")
    return (
        f"<div class='wide' tabindex='0'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def key_table(values: Mapping[str, Any]) -> str:
    """Return a table of two columns, keys and values."""
    rows = "".join(
        f"<tr><th scope='row'>{_cell(key)}</th><td>{_cell(value)}</td></tr>"
        for key, value in values.items()
    )
    return f"<table class='keys'><tbody>{rows}</tbody></table>"


def figure(caption: str, content: str, note: str = "") -> str:
    """Return a figure with a caption; an empty string if there is no content."""
    if not content:
        return ""
    dim = f" <span class='dim'>{escape(note)}</span>" if note else ""
    return f"<figure><figcaption>{escape(caption)}{dim}</figcaption>{content}</figure>"


def scrolled(content: str) -> str:
    """Return content in a box that scrolls if it is wider than the page."""
    return f"<div class='wide' tabindex='0'>{content}</div>"


def hint(text: str) -> str:
    """Return a sentence that explains the figure next to it."""
    return f"<p class='hint'>{escape(text)}</p>"


def meter(value: float) -> Markup:
    """Return a share as a small bar and a percentage."""
    return Markup(
        f"<span class='meter'><i style='width:{100 * value:.0f}%'></i></span>"
        f"<span class='share'>{format_share(value)}</span>"
    )


def _direction(value: Any) -> str:
    """Return the attribute that lets the browser detect the writing direction of a text."""
    return " dir='auto'" if isinstance(value, str) and not isinstance(value, Markup) else ""


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, Markup) else escape(str(value))
