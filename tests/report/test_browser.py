"""`report.html` in a real browser: layout, colors, requests and console."""

from pathlib import Path

import pytest

from pipeline.report import page, run_data
from tests.helpers.chromium import open_page


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_and_is_quiet(run_folder: Path, tmp_path: Path, width: int) -> None:
    shown = open_page(page.render(run_data.read(run_folder)), width, tmp_path)
    assert (shown.width, shown.scroll_width) == (width, width)
    assert shown.too_wide == []
    assert shown.clipped == 0
    assert shown.requests == []
    assert shown.console == []
    assert "Worst mistakes" in shown.text


def test_light_and_dark_follow_the_system(run_folder: Path, tmp_path: Path) -> None:
    html = page.render(run_data.read(run_folder))
    assert open_page(html, 800, tmp_path).background == "rgb(255, 255, 255)"
    assert open_page(html, 800, tmp_path, dark=True).background == "rgb(20, 23, 28)"


def test_the_browser_refuses_what_a_corpus_could_add(run_folder: Path, tmp_path: Path) -> None:
    """The second line of defense: even a tag that was not escaped could load nothing."""
    html = page.render(run_data.read(run_folder))
    image = "<img src='https://example.invalid/a.png'><script>document.body.remove()</script>"
    shown = open_page(html.replace("</main>", f"{image}</main>"), 800, tmp_path)
    assert "Worst mistakes" in shown.text
    refused = [line for line in shown.console if "violates the following Content Sec" in line]
    assert ["img-src" in line for line in refused] == [True, False]
    assert "script" in refused[1]
