"""A page in headless Chromium: its layout at a width, its requests and its console."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-extensions", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr",
    "--window-size=1400,1000",
)  # fmt: skip
MEASURE = """
const frame = document.querySelector('iframe'), out = document.querySelector('pre');
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
  const wide = [...page.body.querySelectorAll('*')].filter(
    e => !e.closest('.wide') && e.getBoundingClientRect().right > width + 1);
  out.textContent = JSON.stringify({
    width, scroll_width: page.documentElement.scrollWidth,
    too_wide: wide.map(e => e.tagName + '.' + e.getAttribute('class')),
    clipped: [...page.querySelectorAll('.wide')].filter(
      e => getComputedStyle(e).overflowX !== 'auto').length,
    requests: frame.contentWindow.performance.getEntriesByType('resource')
      .map(e => e.name).filter(name => !name.startsWith('data:')),
    background: getComputedStyle(page.body).backgroundColor,
    text: page.body.innerText});
};
"""


class Page(NamedTuple):
    """What the browser reports about a page."""

    width: int
    scroll_width: int
    """Larger than `width` if the page scrolls sideways."""
    too_wide: list[str]
    """Elements beyond the right edge, except those in a box that scrolls."""
    clipped: int
    """Boxes for wide content that do not scroll."""
    requests: list[str]
    background: str
    text: str
    """The visible text."""
    console: list[str]
    """Lines of the console, such as errors and refused requests."""


def open_page(page: str, width: int, tmp_path: Path, *, dark: bool = False) -> Page:
    """Open a page in a frame of a width; skip the test if there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    frame = (
        f"<!doctype html><pre></pre><iframe style='width:{width}px;height:900px;border:0' "
        f'srcdoc="{html.escape(page)}"></iframe><script>{MEASURE}</script>'
    )
    path = tmp_path / f"frame-{width}.html"
    path.write_text(frame, encoding="utf-8")
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    profile = [f"--user-data-dir={tmp_path / 'profile'}"]
    command = [program, *FLAGS, *scheme, *profile, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:2000] + done.stderr[-2000:]
    values: dict[str, Any] = json.loads(html.unescape(found[1]))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Page(**values, console=console)
