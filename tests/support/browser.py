"""A real browser for tests: Chromium without a window, driven over the WebDriver protocol (W3C)."""

import base64
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of an element's id
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --window-size=1280,900"
).split()


class Browser:
    """One window.

    Args:
      address: of the session at the driver.
    """

    def __init__(self, address: str):
        self._address = address

    def _call(self, path, body=None, method="POST"):
        return call(self._address + path, body, method)

    def open(self, address):
        """Load a page."""
        self._call("/url", {"url": address})

    def run(self, script, *arguments):
        """What a function body of JavaScript returns."""
        return self._call("/execute/sync", {"script": script, "args": arguments})

    def wait(self, script, seconds=60):
        """Wait until an expression of JavaScript is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < end, f"never true: {script}; {self.complaints()}"
            time.sleep(0.05)
        return value

    def _find(self, selector):
        return self._call("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        """Click on the middle of an element."""
        self._call(f"/element/{self._find(selector)}/click", {})

    def type(self, selector, text):
        """Type into an element; of a file's field the text is the file's path."""
        self._call(f"/element/{self._find(selector)}/value", {"text": str(text)})

    def press(self, key):
        """Press a key, wherever the focus is."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, selector, right, down):
        """Press the mouse on the middle of an element, move it by pixels, and let go."""
        origin = {ELEMENT: self._find(selector)}
        moves = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "x": right, "y": down, "origin": "pointer"},
            {"type": "pointerUp", "button": 0},
        ]
        self._call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def protocol(self, command, **parameters):
        """Call Chromium's own protocol."""
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def shape(self, width, height, *, dark=False):
        """Size of the window in pixels, and the person's choice of colors."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.protocol("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.protocol("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path):
        """The whole page as a PNG file."""
        shot = self.protocol("Page.captureScreenshot", captureBeyondViewport=True)
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def complaints(self):
        """What the console holds since the last call; a page without faults leaves it empty."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]


def call(address, body=None, method="POST"):
    """One command of the protocol."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def open_browser(profile):
    """A `Browser` with a fresh profile in a folder; the test is skipped where there is none."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("browser: chromium and chromedriver are not installed")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.terminate)
        line = next(line for line in process.stdout if "started successfully" in line)
        address = "http://127.0.0.1:{}/session".format(re.search(r"port (\d+)", line)[1])
        chrome = {"binary": chromium, "args": [*OPTIONS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        session = call(address, {"capabilities": {"alwaysMatch": wanted}})
        address = f"{address}/{session['sessionId']}"
        stack.callback(call, address, method="DELETE")
        yield Browser(address)
