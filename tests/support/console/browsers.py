"""Headless Chromium for tests, and axe-core in its pages.

Debian's chromium and chromium-driver are used. Without them, tests are skipped; in CI, they fail.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.missing import give_up

ROOT = Path(__file__).parents[3]
AXE = ROOT / "tests" / "support" / "browser" / "node_modules" / "axe-core" / "axe.min.js"

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en",
)

WIDE = (1200, 900)
PHONE = (390, 844)


@contextmanager
def open_browser(*, scripts: bool = True, dark: bool = False) -> Iterator[Any]:
    """Yield a browser with a profile of its own; close it at the end."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        give_up("no browser: run `apt-get install chromium chromium-driver`")
    if not AXE.exists():
        give_up("no axe-core: run `npm ci --prefix tests/support/browser`")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        if dark:
            options.add_argument("--force-dark-mode")
        if not scripts:
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": 2}
            )
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            resize(browser, WIDE)
            browser.set_page_load_timeout(30)
            browser.set_script_timeout(30)
            yield browser
        finally:
            browser.quit()


def resize(browser: Any, size: tuple[int, int]) -> None:
    """Set the size of the page in CSS pixels, without the browser's frame."""
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def set_scheme(browser: Any, scheme: str) -> None:
    """Prefer ``light`` or ``dark``."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find_faults(browser: Any) -> list[str]:
    """Return the serious and critical faults that axe-core finds, with their elements."""
    # Through the driver, since the page's own policy allows no other script.
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations));"
    )
    return [
        f"{fault['id']}: {fault['help']}: {[node['html'][:200] for node in fault['nodes'][:3]]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


def save_screenshot(browser: Any, name: str) -> None:
    """Save a screenshot in the folder ``SCREENSHOTS``, such as ``docs/images``, if it is set."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))
