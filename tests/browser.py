"""Headless Chromium for tests of pages; skipped where there is none."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en",
)


class Browser:
    """A browser, asked by selectors and scripts."""

    def __init__(self, profile: Path) -> None:
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not chromium or not driver:
            pytest.skip("Chromium is not on this machine (Debian: apt-get install chromium chromium-driver)")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver)
        self.driver: Any = webdriver.Chrome(options=options, service=service)
        self.size(1280, 1200)

    def close(self) -> None:
        self.driver.quit()

    def size(self, width: int, height: int) -> None:
        about = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", about)

    def prefer(self, scheme: str) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def open(self, address: str) -> None:
        self.driver.get(address)

    def js(self, expression: str) -> Any:
        """Return the value of an expression."""
        return self.driver.execute_script(f"return {expression}")

    def text(self, selector: str) -> str:
        """Return the text of the first element that fits; "" where there is none."""
        return str(self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def data(self, name: str) -> Any:
        """Return what the page tells of itself."""
        return self.js(
            f"(document.querySelector('.powder') ?? document.body).dataset.{name} ?? document.body.dataset.{name}"
        )

    def download_to(self, folder: Path) -> None:
        """Let downloads go to a folder."""
        folder.mkdir(exist_ok=True)
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)

    def picture(self, path: Path) -> None:
        """Write what is to be seen as a PNG."""
        self.driver.save_screenshot(str(path))

    def colours(self, selector: str) -> int:
        """Return how many colours a canvas has."""
        canvas = f"document.querySelector({json.dumps(selector)})"
        pixels = f"{canvas}.getContext('2d').getImageData(0, 0, {canvas}.width, {canvas}.height).data.buffer"
        return int(self.js(f"new Set(new Uint32Array({pixels})).size"))

    def faults(self) -> list[str]:
        """Return what the console has of faults since the last call; refused requests are answers, not faults."""
        told = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in told if "Failed to load resource" not in message]


def until(condition: Callable[[], Any], *, seconds: float = 120.0) -> Any:
    """Wait for a condition, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)
    return value
