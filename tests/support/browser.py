"""`litemedsam annotate` in a process, and Chromium on its page."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars",
)  # fmt: skip
WAIT_SECONDS = 60.0


class Server:
    """`litemedsam annotate` in a process of its own."""

    def __init__(self, *arguments: object):
        command = [sys.executable, "-m", "litemedsam_jax", "annotate", "--no-browser"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
        if not found:
            self.process.kill()
            raise AssertionError(f"no address: {line}{self.process.communicate()[1]}")
        self.address, self.port, self.token = found[0], int(found[1]), found[2]

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ends it as Ctrl-C does; returns what it wrote to standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=20)[1]


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Any]:
    """Chromium, driven by selenium; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here: the page is NOT tested in a browser")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.add_argument("--window-size=1366,768")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options, webdriver.ChromeService(driver))
    running.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False},
    )
    yield running
    running.quit()


class Page:
    """The page as a user has it: mouse and keys, and what is seen."""

    def __init__(self, browser: Any, server: Server):
        self.browser, self.server = browser, server
        browser.get_log("browser")  # what an earlier page said
        browser.get(server.address)
        self.wait(lambda: self.store("case") is not None, "a case to open")
        self.wait_for_slice()

    def script(self, code: str, *arguments: object) -> Any:
        """Runs JavaScript; returns what it returns."""
        return self.browser.execute_script(code, *arguments)

    def store(self, name: str) -> Any:
        """One of the things that the page knows."""
        return self.script(
            "const s = window.litemedsam?.store; return s ? s[arguments[0]] : null;", name
        )

    def text(self, selector: str) -> str:
        """The text of an element."""
        return self.script("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        """Waits until a condition holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            result = condition()
            if result:
                return result
            time.sleep(0.05)
        raise AssertionError(f"waited for {what}; the page says: {self.text('#message')}")

    def wait_for_slice(self) -> None:
        """Until every pane shows the slice that is wanted."""
        code = "return litemedsam.panes().every((p) => p.slice && p.index === p.wanted)"
        self.wait(lambda: self.script(code), "the slices")

    def wait_for_labels(self) -> None:
        """Until every pane shows the labels as the server last told of them."""
        code = "return litemedsam.panes().every((p) => p.revision >= litemedsam.store.revision)"
        self.wait(lambda: self.script(code), "the labels")

    def shown_labels(self, step: int = 1) -> np.ndarray:
        """The label map of the native slice, as the page holds it; every so many pixels."""
        self.wait_for_labels()
        code = """
            const pane = litemedsam.panes().find((p) => p.plane.axis === 0), lines = [];
            for (let y = 0; y < pane.rows; y += arguments[0]) {
                const line = pane.labels.kept.subarray(y * pane.columns, (y + 1) * pane.columns);
                lines.push(Array.from(line.filter((_, x) => x % arguments[0] === 0)).join(" "));
            }
            return lines;"""
        return np.array([line.split() for line in self.script(code, step)], np.uint16)

    def add_label(self, name: str) -> None:
        """Adds a label by key and types its name."""
        count = len(self.store("labels"))
        self.key("a")
        self.wait(lambda: self.script("return document.activeElement.type === 'text'"), "the name")
        self.key(*name, "enter")
        done = "return litemedsam.store.labels.at(-1).name === arguments[0]"
        self.wait(lambda: self.script(done, name), "the label")
        assert len(self.store("labels")) == count + 1

    def wait_for_model(self) -> None:
        """Until the slice is encoded."""
        self.wait(lambda: self.text("#ready") == "ready", "the encoded slice")

    def at(self, u: float, v: float, axis: int = 0) -> tuple[float, float]:
        """Where a pixel of a pane's slice lies in the window."""
        code = """
            const pane = litemedsam.panes().find((p) => p.plane.axis === arguments[2]);
            const box = pane.element.getBoundingClientRect();
            const [x, y] = pane.view.toScreen(arguments[0], arguments[1]);
            return [box.left + x, box.top + y];"""
        x, y = self.script(code, u, v, axis)
        return x, y

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """One event of the mouse, as the browser's own."""
        event = {"type": kind, "x": x, "y": y, "button": "left", **more}
        if kind == "mouseMoved" and "buttons" not in more:
            event["button"] = "none"
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def drag(
        self, *points: tuple[float, float], button: str = "left", release: bool = True
    ) -> None:
        """Presses at the first point, moves through the others, releases at the last."""
        mask = {"left": 1, "right": 2, "middle": 4}[button]
        self.mouse("mouseMoved", *points[0])
        self.mouse("mousePressed", *points[0], button=button, buttons=mask, clickCount=1)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, button=button, buttons=mask)
        if release:
            self.mouse("mouseReleased", *points[-1], button=button, clickCount=1)

    def draw_box(self, box: list[int], release: bool = True) -> None:
        """Drags a box from the middle of its first pixel to the middle of its last."""
        x_min, y_min, x_max, y_max = box
        start, end = self.at(x_min + 0.5, y_min + 0.5), self.at(x_max + 0.5, y_max + 0.5)
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        count = len(self.store("layers"))
        self.drag(start, middle, end, release=release)
        if release:
            self.wait(lambda: len(self.store("layers")) == count + 1, "the box to be kept")

    def key(self, *names: str) -> None:
        """Presses keys, one after the other; "Control+z" holds the first."""
        from selenium.webdriver import ActionChains, Keys

        for name in names:
            *held, last = name.split("+") if len(name) > 1 else [name]
            chain = ActionChains(self.browser)
            keys = [getattr(Keys, k.upper()) for k in held]
            for key in keys:
                chain.key_down(key)
            chain.send_keys(getattr(Keys, last.upper()) if len(last) > 1 else last or "+")
            for key in reversed(keys):
                chain.key_up(key)
            chain.perform()

    def click(self, selector: str) -> None:
        """Clicks an element."""
        from selenium.webdriver.common.by import By

        self.browser.find_element(By.CSS_SELECTOR, selector).click()

    def errors(self) -> list[str]:
        """What the browser complained of on this page: scripts, policies, requests.

        A page before it, of another server, may be told late that its server is gone: not counted.
        """
        severe = [e["message"] for e in self.browser.get_log("browser") if e["level"] == "SEVERE"]
        other_server = re.compile(rf"http://127\.0\.0\.1:(?!{self.server.port}/)\d+/")
        return [message for message in severe if not other_server.match(message)]

    def picture(self, path: Path) -> None:
        """What the user sees, as a PNG."""
        self.browser.save_screenshot(str(path))
