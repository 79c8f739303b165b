"""The page to try a model, in a real browser and with its keyboard."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import pipeline
from tests.helpers.browser import CONTROL, Browser, browser
from tests.helpers.serving import ask, serving

Runs = Callable[[str], Path]
RESULT = "document.querySelector('#result')"


@pytest.mark.slow
def test_a_text_is_predicted_with_the_keyboard_alone(runs: Runs, tmp_path: Path) -> None:
    async def body(page: Browser, url: str) -> None:
        await page.open(url)
        await page.type("the film was superb")  # the text field has the focus
        await page.press("Tab")
        assert await page.value("document.activeElement.tagName") == "BUTTON"
        await page.press("Enter")
        await page.wait_for(f"{RESULT}.querySelectorAll('.meter').length === 2")
        assert "✓" in await page.value(f"{RESULT}.innerText")
        widths = await page.value(
            f"[...{RESULT}.querySelectorAll('.meter i')].map(i => i.getBoundingClientRect().width)"
        )
        assert 0 < widths[1] <= widths[0] <= 72
        await page.value("document.querySelector('textarea').focus()")
        await page.value("document.querySelector('textarea').value = ''")
        await page.press("Enter", CONTROL)
        await page.wait_for(f"{RESULT}.querySelector('[role=alert]')")
        assert await page.value(f"{RESULT}.innerText") == "the text is empty"
        await fits(page, 400)
        await fits(page, 1280)
        assert not page.names("Runtime.exceptionThrown")
        requests = page.names("Network.requestWillBeSent")
        assert all(f'"url": "{url}' in line or '"url": "data:' in line for line in requests)

    show(runs("classification"), tmp_path, body)


@pytest.mark.slow
def test_translations_show_their_attention_and_texts_stay_texts(runs: Runs, tmp_path: Path) -> None:
    async def body(page: Browser, url: str) -> None:
        await page.open(url)
        await page.type("the film <img src=x onerror=alert(1)>")
        await page.press("Enter", CONTROL)
        await page.wait_for(f"{RESULT}.querySelector('article')")
        assert await page.value(f"{RESULT}.querySelectorAll('svg rect').length") > 0
        assert await page.value(f"{RESULT}.querySelectorAll('img').length") == 0
        for scheme, color in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 28)")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            await page.send("Emulation.setEmulatedMedia", features=features)
            assert await page.value("getComputedStyle(document.body).backgroundColor") == color

    show(runs("translation"), tmp_path, body)


def test_entities_are_marked(runs: Runs) -> None:
    with serving(pipeline.load(runs("tagging"))) as port:
        answer = ask(port, "POST", "/view", {"input": "Peter <b>Miller</b> saw it"})
    html = answer.value["html"]
    assert "Peter" in html
    assert "&lt;b&gt;Miller" in html
    assert "saw" in html
    spans = answer.value["prediction"]["spans"]
    assert html.count("<mark class='e") == len(spans)
    assert "dashed frame" not in html


def test_a_page_has_a_field_for_each_column(runs: Runs) -> None:
    with serving(pipeline.load(runs("entailment"))) as port:
        page = ask(port, "GET", "/")
        row = {"text": "the red film", "claim": "red"}
        answer = ask(port, "POST", "/view", {"input": row})
        assert ask(port, "POST", "/view", {"inputs": [row]}).status == 422
    assert [page.value.count(f"name='{name}'") for name in ("text", "claim")] == [1, 1]
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    assert "class='meter'" in answer.value["html"]


@pytest.mark.parametrize(
    "task, name", [("language_modeling", "continuation"), ("regression", "number")]
)
def test_other_predictions_are_texts_by_name(runs: Runs, task: str, name: str) -> None:
    with serving(pipeline.load(runs(task))) as port:
        answer = ask(port, "POST", "/view", {"input": "the film"})
    assert f"<dt>{name}</dt>" in answer.value["html"]


async def fits(page: Browser, width: int) -> None:
    """Check that the page does not scroll sideways in a window of a width."""
    await page.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
        mobile=False,
    )  # fmt: skip
    assert await page.value("document.documentElement.scrollWidth") == width


def show(run: Path, folder: Path, body: Callable[[Browser, str], Awaitable[None]]) -> None:
    """Serve a run and open a browser."""

    async def main(port: int) -> None:
        async with browser(folder) as page:
            await body(page, f"http://127.0.0.1:{port}/")

    with serving(pipeline.load(run)) as port:
        asyncio.run(main(port))
