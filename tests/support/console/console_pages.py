"""Actions of a person on a page of the console, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from portable_core.demo.cluster import Cluster
from tests.support.console.browsers import find_faults


def log_in(browser: Any, cluster: Cluster, token: str | None = None) -> None:
    browser.get(f"{cluster.master.url}/login")
    field = find(browser, "#token")
    field.send_keys(cluster.console_token if token is None else token)
    follow(browser, field.submit)


def follow(browser: Any, act: Callable[[], object]) -> None:
    """Call ``act``, which leads to another page, and return once that page is loaded.

    The driver alone may return while the old page is still shown, above all without scripts.
    """
    old = find(browser, "html")
    act()

    def is_there() -> object:
        state = "return document.readyState"
        return find(browser, "html") != old and browser.execute_script(state) == "complete"

    wait_for(browser, is_there, "no other page was loaded")


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def read(browser: Any, selector: str = "main") -> str:
    return str(find(browser, selector).text)


def wait_for(
    browser: Any, condition: Callable[[], object], what: str, within_s: float = 30
) -> None:
    """Return when the condition holds; elements may come and go meanwhile."""
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except WebDriverException:
            pass
        time.sleep(0.05)
    pytest.fail(f"{what}; the page says: {read(browser, 'body')[:2000]}")


def press(browser: Any, text: str) -> None:
    """Press the button once it exists and is enabled."""
    button = ("xpath", f"//main//button[contains(., '{text}')]")
    wait_for(browser, lambda: browser.find_element(*button).is_enabled(), f"no button {text!r}")
    browser.find_element(*button).click()


def browser_actions(browser: Any) -> Any:
    from selenium.webdriver import ActionChains

    return ActionChains(browser)


def check_page(browser: Any) -> None:
    """Check that axe-core finds no serious fault, no payload ran, and no other host was used."""
    assert find_faults(browser) == []
    assert browser.execute_script("return window.struck") is None
    host = browser.execute_script("return location.origin")
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in loaded if not name.startswith(host)] == []
