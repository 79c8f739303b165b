"""A page in headless Chromium that a test types into and reads, over the DevTools protocol."""

import asyncio
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.helpers.chromium import FLAGS, PROGRAMS

KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}
"""Codes of keys, and the text that they type."""
CONTROL = 2
"""The modifier Ctrl."""


class Browser:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript."""
        result = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(60):
            while not await self.value(f"Boolean({expression})"):
                await asyncio.sleep(0.05)

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code, text = KEYS[key]
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=modifiers,
                windowsVirtualKeyCode=code, text=text if kind == "keyDown" else "",
            )  # fmt: skip

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.wait_for(
            f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        )

    def names(self, method: str) -> list[str]:
        """Return the parameters of the events of a method, as JSON."""
        return [json.dumps(e["params"]) for e in self.events if e.get("method") == method]


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """Start a browser with a profile in a folder; skip the test if there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr
        async with asyncio.timeout(60):
            while not (found := re.search(rb"ws://([^/]+)/", await process.stderr.readline())):
                pass
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://{found[1].decode()}/json/list")
            (url,) = (t["webSocketDebuggerUrl"] for t in await answer.json() if t["type"] == "page")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = Browser(socket)
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await page.send(f"{domain}.enable")
                yield page
    finally:
        process.kill()
        await process.wait()
