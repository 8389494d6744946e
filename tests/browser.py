"""A headless Chromium that tests drive over its DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")


class Tab:
    """One page; everything it logs, throws or requests is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self.socket = socket
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads(await self.socket.receive_str(timeout=30))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def open(self, page: Path, width: int) -> None:
        """Load a file in a window of `width` pixels and wait until it is there."""
        for domain in ("Runtime", "Log", "Network", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        await self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + 30
        while await self.evaluate("document.readyState") != "complete" or await self.evaluate("location.protocol") != "file:":
            assert time.monotonic() < deadline, "the page never loaded"
            await asyncio.sleep(0.05)

    async def press(self, key: str) -> None:
        """Press and release a key, such as Enter or ArrowRight, where the focus is."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            await self.call("Input.dispatchKeyEvent", type=kind, **about, **(text if kind == "keyDown" else {}))
        await self.evaluate("new Promise(done => setTimeout(done))")  # after events that follow, such as that of a closed dialog

    async def light(self, scheme: str) -> None:
        """Show the page as for people who prefer a light or a dark one."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def nameless(self) -> list[str]:
        """The roles of the controls and pictures that a screen reader could only call by their kind."""
        tree = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        told = ("button", "slider", "combobox", "checkbox", "image", "dialog", "link")
        shown = [node for node in tree if not node["ignored"] and node["role"]["value"] in told]
        assert shown
        return [node["role"]["value"] for node in shown if not node.get("name", {}).get("value")]

    async def photograph(self, path: Path) -> None:
        """The whole page as a PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning")
        ):
            self.errors.append(json.dumps(about))
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])


@contextlib.contextmanager
def _chromium() -> Iterator[int]:
    """The port of a running Chromium's DevTools."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        process = subprocess.Popen([PROGRAM, *options, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            note, deadline = Path(profile) / "DevToolsActivePort", time.monotonic() + 60
            while not note.exists() or not note.read_text():
                assert process.poll() is None and time.monotonic() < deadline, "Chromium did not start"
                time.sleep(0.1)
            yield int(note.read_text().split()[0])
        finally:
            process.terminate()
            process.wait(30)


@contextlib.asynccontextmanager
async def opened(page: Path, width: int):
    """A tab with `page` loaded in a window of `width` pixels."""
    with _chromium() as port:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                (address, *_) = [tab["webSocketDebuggerUrl"] for tab in await answer.json() if tab["type"] == "page"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                await tab.open(page, width)
                yield tab
