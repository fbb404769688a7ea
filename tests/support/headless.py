"""A headless Chromium that tests drive by the DevTools protocol, through pipes.

The pipes need no package: each message is JSON with a zero byte at its end.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
# Chromium reads its orders from descriptor 3 and answers to 4.
_START = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
_START += "os.execv(sys.argv[3], sys.argv[3:])"
_FLAGS = (
    "--headless",
    "--no-sandbox",  # containers have no user namespaces
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Page:
    """One open page.

    Attributes:
      said: texts of the page's errors and messages on the console.
      requests: addresses that the page asked for after it had been opened.
    """

    def __init__(self, orders: int, answers: int):
        self._orders, self._answers, self._unread = orders, answers, b""
        self._number, self._session = 0, ""
        self.said: list[str] = []
        self.requests: list[str] = []

    def attach(self) -> None:
        target = self.order("Target.createTarget", url="about:blank")["targetId"]
        session = self.order("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.order(f"{domain}.enable")

    def order(self, method: str, **options: Any) -> dict[str, Any]:
        """Gives an order, waits, and returns the result. Events that come first are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": options}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(30)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._keep(answer)

    def open(self, path: pathlib.Path, *, width: int = 1280, height: int = 900) -> None:
        """Opens a file in a window of this size, and waits until it is loaded."""
        self.said.clear()
        self.requests.clear()
        self.order(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.order("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 30
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.02)
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def media(self, media: str = "", **features: str) -> None:
        """Emulates print, a dark theme or reduced motion."""
        wanted = [{"name": name.replace("_", "-"), "value": features[name]} for name in features]
        self.order("Emulation.setEmulatedMedia", media=media, features=wanted)

    def run(self, script: str) -> Any:
        """Returns the value of an expression in the page; a promise is waited for."""
        done = self.order(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:2000])
        return done["result"].get("value")

    def key(self, key: str, *, shift: bool = False) -> None:
        """Presses and releases a key."""
        letter = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            texts = letter if kind == "keyDown" else {}
            held = 8 if shift else 0
            self.order("Input.dispatchKeyEvent", type=kind, key=key, modifiers=held, **texts)

    def mouse(self, kind: str, x: float, y: float, *, held: bool = True) -> None:
        """Does something with the left button: `mousePressed`, `mouseMoved` or `mouseReleased`."""
        button = "left" if held or kind == "mouseReleased" else "none"
        about = {"x": x, "y": y, "button": button, "buttons": int(held), "clickCount": 1}
        self.order("Input.dispatchMouseEvent", type=kind, **about)

    def screenshot(self, *, whole: bool = True) -> bytes:
        """Returns a picture of the page as PNG."""
        taken = self.order("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(taken["data"])

    def pdf(self) -> bytes:
        """Returns the page as it is printed."""
        return base64.b64decode(self.order("Page.printToPDF", printBackground=False)["data"])

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], deadline - time.monotonic())
            block = os.read(self._answers, 2**20) if ready else b""
            if not block:
                raise TimeoutError("Chromium does not answer")
            self._unread += block
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def _keep(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(about["exceptionDetails"])[:1000])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(about["args"])[:1000])
        elif method == "Log.entryAdded":
            self.said.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """Starts a browser with one empty page, and ends it."""
    assert CHROMIUM is not None
    read_orders, orders = os.pipe()
    answers, write_answers = os.pipe()
    # Far above 3 and 4, so that moving one does not close the other.
    for_child = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (read_orders, write_answers)]
    os.close(read_orders)
    os.close(write_answers)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, for_child), *command],
            pass_fds=for_child,
            stderr=subprocess.DEVNULL,
        )
        for one in for_child:
            os.close(one)
        try:
            page = Page(orders, answers)
            page.attach()
            yield page
        finally:
            os.close(orders)  # Chromium ends when nobody can give it orders
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(answers)
