"""The console in a real browser, on real nodes: from the login to a replay."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from portable_core.demo.cluster import Cluster, trigger_sync
from portable_core.demo.processes import NodeProcess
from portable_core.demo.traffic import SAMPLES
from tests.support.console.browsers import (
    PHONE,
    WIDE,
    open_browser,
    resize,
    save_screenshot,
    set_scheme,
)
from tests.support.console.console_pages import (
    browser_actions,
    check_page,
    find,
    follow,
    log_in,
    press,
    read,
    wait_for,
)
from tests.support.nodes.receivers import ReplayTarget, run_receiver

ORDER = b'{"order": "A-1001", "note": "flaky"}'

SPAN_S = 2
#: More than the time from the end of a sync to the page that shows it, on a busy machine.
LATE_S = 10

#: Each sets ``window.struck`` if a part of it runs in the page.
HOSTILE = {
    "script": "</pre></code><script>window.struck = 1</script>",
    "image": '"><img src=x onerror="window.struck = 2">',
    "attribute": "' autofocus onfocus='window.struck = 3' x='",
    "svg": "<svg onload='window.struck = 4'><a href=\"javascript:window.struck=5\">x</a></svg>",
    "template": "{{ 7 * 7 }}{% include 'login.html' %}",
    "style": "<style>body { display: none }</style>",
    "terminal": "\u001b[2J\u0000\u202e",
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[ReplayTarget]:
    """A receiver of replays that rejects a payload with ``flaky`` the first time."""
    seen: set[bytes] = set()

    def answer(body: bytes) -> int:
        known = body in seen
        seen.add(body)
        if b"slow" in body:
            time.sleep(0.1)
        return 500 if b"flaky" in body and not known else 204

    with run_receiver(answer) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, receiver: ReplayTarget) -> Iterator[Cluster]:
    """A master and two slaves, with webhooks that only a slave received."""
    cluster = Cluster(
        tmp_path_factory.mktemp("console"),
        2,
        {"SPAN_S": str(SPAN_S)},
        {
            "CONSOLE_LATE_S": str(LATE_S),
            "REPLAY_TARGETS": receiver.url,
            "REPLAY_SECRET": "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw==",
        },
    )
    try:
        cluster.start()
        for number, file in enumerate(sorted(SAMPLES.glob("*.json"))[:24]):
            targets = cluster.nodes if number % 4 else cluster.slaves
            for node in targets:
                send(node, file.read_bytes(), event=file.name.partition(".")[0])
        send(cluster.master, ORDER, "shop")
        time.sleep(SPAN_S + 0.5)
        yield cluster
    finally:
        cluster.stop()


def send(node: NodeProcess, payload: bytes, source: str = "github", event: str = "push") -> str:
    """Post one webhook; return its id."""
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": HOSTILE["image"] if source == "hostile" else f"d-{len(payload)}",
    }
    request = urllib.request.Request(f"{node.url}/webhook/{source}", payload, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        pair = json.load(answer)
    return f"{pair['timestamp']}-{pair['hash']}"


@pytest.fixture(scope="module")
def browser(cluster: Cluster) -> Iterator[Any]:
    with open_browser() as browser:
        log_in(browser, cluster)
        yield browser


def test_a_visitor_without_a_login_sees_only_the_login(cluster: Cluster) -> None:
    with open_browser() as browser:
        for path in ("/", "/webhooks", "/quarantine", "/replays", "/dead-letters"):
            browser.get(cluster.master.url + path)
            assert "/login" in browser.current_url
        assert "github" not in browser.page_source
        check_page(browser)
        log_in(browser, cluster, token="not the console's token")
        assert "Wrong token" in read(browser)
        log_in(browser, cluster)
        assert read(browser, "h1") == "Overview"
        (cookie,) = browser.get_cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        follow(browser, browser.find_element("xpath", "//button[. = 'Log out']").click)
        browser.get(cluster.master.url)
        assert "/login" in browser.current_url


def log_out(browser: Any, cluster: Cluster) -> None:
    browser.get(cluster.master.url)
    browser.delete_all_cookies()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_link_of_another_site_opens_the_page_and_logs_nobody_out(
    cluster: Cluster, scripts: bool
) -> None:
    with open_browser(scripts=scripts) as browser:
        link = f'<a href="{cluster.master.url}/webhooks">webhooks</a>'
        for action, heading in ((log_out, "Log in"), (log_in, "Webhooks")):
            action(browser, cluster)
            browser.get(f"data:text/html,{quote(link)}")
            follow(browser, find(browser, "a").click)
            shown = f"//h1[. = '{heading}']"
            wait_for(browser, partial(browser.find_element, "xpath", shown), "no such page")
        browser.get(cluster.master.url)
        assert read(browser, "h1") == "Overview"


def test_a_late_slave_is_shown_and_synced(cluster: Cluster, browser: Any) -> None:
    browser.get(cluster.master.url)
    assert "never synced" in read(browser)
    press(browser, "Sync now")
    wait_for(browser, lambda: "The master is complete." in read(browser, ".verdict"), "not synced")
    assert "6 were missing, 6 recovered" in read(browser)
    check_page(browser)
    save_screenshot(browser, "console-healthy")

    send(cluster.slaves[1], json.dumps({"missed": "by the master"}).encode())
    slave = cluster.slaves[0]
    slave.stop()
    time.sleep(LATE_S)
    browser.refresh()
    assert "a slave is late" in read(browser, ".verdict")
    press(browser, "Sync now")
    wait_for(browser, lambda: "could not be synced" in read(browser, ".verdict"), "not failed")
    wait_for(browser, lambda: "1 was missing, 1 recovered" in read(browser), "not recovered")
    assert "Check that the slave runs" in read(browser)
    check_page(browser)
    save_screenshot(browser, "console-degraded")
    resize(browser, PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    check_page(browser)
    save_screenshot(browser, "console-phone")
    resize(browser, WIDE)

    slave.start()
    cluster.wait_until_healthy()
    press(browser, "Sync now")
    wait_for(
        browser, lambda: "The master is complete." in read(browser, ".verdict"), "not caught up"
    )
    set_scheme(browser, "dark")
    check_page(browser)
    set_scheme(browser, "light")


def test_a_webhook_is_found_and_shown(cluster: Cluster, browser: Any) -> None:
    browser.get(f"{cluster.master.url}/webhooks")
    check_page(browser)
    find(browser, "#value").send_keys("A-1001")
    follow(browser, find(browser, "#value").submit)
    rows = browser.find_elements("css selector", "tbody tr")
    assert [("shop" in row.text, "A-1001" in row.text) for row in rows] == [(True, True)]
    follow(browser, rows[0].find_element("css selector", "a").click)
    assert '"order": "A-1001"' in read(browser, "pre.payload")
    assert "from a sender" in read(browser)
    webhook = browser.current_url.rpartition("/")[2]
    check_page(browser)
    save_screenshot(browser, "console-webhook")

    hash_ = webhook.partition("-")[2]
    for query in (f"hash={hash_}", f"id=d-{len(ORDER)}&source=shop", "source=shop"):
        browser.get(f"{cluster.master.url}/webhooks?{query}")
        links = browser.find_elements("css selector", "tbody td:first-child a")
        assert [link.get_attribute("href").rpartition("/")[2] for link in links] == [webhook]
    browser.get(f"{cluster.master.url}/webhooks?id={webhook}")
    assert browser.current_url.endswith(webhook)
    browser.get(f"{cluster.master.url}/webhooks?start=yesterday")
    assert "must be a time such as" in read(browser, "[role=alert]")


def test_a_recovered_webhook_names_its_slave(cluster: Cluster, browser: Any) -> None:
    trigger_sync(cluster.master.url, cluster.token)
    browser.get(f"{cluster.master.url}/webhooks")
    row = browser.find_element("xpath", "//tr[contains(., 'recovered')]")
    follow(browser, row.find_element("css selector", "a").click)
    assert "recovered from slave-" in read(browser)


def test_a_replay_shows_its_results_and_retries_failed_webhooks(
    cluster: Cluster, browser: Any, receiver: ReplayTarget
) -> None:
    receiver.taken.clear()
    browser.get(f"{cluster.master.url}/replays")
    find(browser, "#start").send_keys("2020-01-01T00:00")
    find(browser, "#end").send_keys("2100-01-01T00:00")
    find(browser, "#source").send_keys("shop")
    send(cluster.master, json.dumps({"order": "A-1002"}).encode(), "shop")
    check_page(browser)
    follow(browser, lambda: press(browser, "Send"))
    wait_for(browser, lambda: "Done" in read(browser), "the run does not end")
    assert "1 delivered, 1 failed" in read(browser)
    assert [body for _, body in receiver.taken] == [
        ORDER,
        b'{"order": "A-1002"}',
    ]
    headers = receiver.taken[0][0]
    assert headers["x-github-event"] == "push"
    assert headers["webhook-signature"].startswith("v1,")
    check_page(browser)
    save_screenshot(browser, "console-replay")
    press(browser, "Retry 1 failed webhook")
    wait_for(browser, lambda: "Done: 1 delivered, 0 failed, of 1" in read(browser), "not repeated")
    assert len(receiver.taken) == 3


def test_the_stop_button_stops_a_run(
    cluster: Cluster, browser: Any, receiver: ReplayTarget
) -> None:
    receiver.taken.clear()
    for number in range(300):
        send(cluster.master, b'{"slow": %d}' % number, "slow")
    browser.get(f"{cluster.master.url}/replays")
    for name, value in (("start", "2020-01-01"), ("end", "2100-01-01"), ("source", "slow")):
        find(browser, f"#{name}").send_keys(value)
    follow(browser, lambda: press(browser, "Send"))
    wait_for(browser, lambda: receiver.taken, "nothing is sent")
    # A press has a duration: the button must not be replaced meanwhile.
    button = find(browser, "#stop button")
    actions = browser_actions(browser)
    actions.click_and_hold(button).pause(1.2).release().perform()
    wait_for(browser, lambda: "Stopped" in read(browser), "the run continues")
    assert 0 < len(receiver.taken) < 300
    assert browser.find_elements("css selector", "#stop") == []


def test_a_replay_to_another_target_is_rejected(cluster: Cluster, browser: Any) -> None:
    browser.get(f"{cluster.master.url}/replays")
    for name, value in (("start", "0"), ("end", "99999999999999")):
        find(browser, f"#{name}").send_keys(value)
    address = find(browser, "#url")
    address.clear()
    address.send_keys(cluster.slaves[0].url)
    press(browser, "Send")
    wait_for(browser, lambda: "REPLAY_TARGETS does not allow" in read(browser), "not refused")


def test_no_part_of_a_payload_runs(cluster: Cluster, browser: Any) -> None:
    names = {
        name: send(
            cluster.master,
            json.dumps({"x": text, text: 1}).encode(),
            "hostile",
            text[:20] if text.isprintable() else "push",
        )
        for name, text in HOSTILE.items()
    }
    browser.get_log("browser")
    browser.get(f"{cluster.master.url}/webhooks?source=hostile")
    assert len(browser.find_elements("css selector", "tbody tr")) == len(HOSTILE)
    check_page(browser)
    for name, webhook in names.items():
        browser.get(f"{cluster.master.url}/webhooks/{webhook}")
        assert json.loads(read(browser, "pre.payload"))["x"] == HOSTILE[name]
        assert find(browser, "pre.payload").find_elements("css selector", "*") == []
        assert browser.execute_script("return window.struck") is None
    webhooks = list(names.values())
    for one, other in pairwise(webhooks):
        browser.get(f"{cluster.master.url}/webhooks/{one}/compare/{other}")
        assert browser.execute_script("return window.struck") is None
        assert find(browser, ".compare").find_elements("css selector", "code *, a, img") == []
    check_page(browser)
    browser.get(f"{cluster.master.url}/quarantine")
    check_page(browser)
    for text in HOSTILE.values():
        browser.get(f"{cluster.master.url}/webhooks?value={quote(text)}&source={quote(text)}")
        assert browser.execute_script("return window.struck") is None
        assert find(browser, "#value").get_attribute("value") == text.replace("\u0000", "\ufffd")
    # The policy blocked nothing: payloads were text all along.
    assert [entry for entry in browser.get_log("browser") if "Policy" in entry["message"]] == []


def test_copies_that_differ_are_named_and_compared(cluster: Cluster, browser: Any) -> None:
    for number in range(4):
        for attempt, node in enumerate((cluster.master, cluster.slaves[0]), 1):
            body = {"id": f"evt_{number}", "attempt": attempt, "total": 100 + number}
            send(node, json.dumps(body).encode(), "pay", "invoice.paid")
    time.sleep(SPAN_S + 0.5)
    trigger_sync(cluster.master.url, cluster.token)
    browser.get(cluster.master.url)
    card = browser.find_element("css selector", "[aria-label='Slave slave-1']")
    assert "differ from the master's only in /attempt" in card.text
    assert '[pay]\nidentity.without = ["/attempt"]' in card.text
    check_page(browser)
    follow(browser, card.find_element("link text", "pay").click)
    follow(browser, browser.find_element("xpath", "//tr[contains(., 'from a sender')]//a").click)
    check_page(browser)
    follow(browser, browser.find_element("link text", "Compare").click)
    row = browser.find_element("xpath", "//tr[contains(., '/attempt')]")
    assert [cell.text for cell in row.find_elements("css selector", "td")] == ["1", "2"]
    check_page(browser)
    save_screenshot(browser, "console-compare")


@contextmanager
def quiet_browser() -> Iterator[Any]:
    with open_browser(scripts=False) as browser:
        yield browser


def test_everything_works_without_scripts(cluster: Cluster, receiver: ReplayTarget) -> None:
    with quiet_browser() as browser:
        log_in(browser, cluster)
        follow(browser, lambda: press(browser, "Sync now"))
        wait_for(browser, lambda: "succeeded" in read(browser), "no result by refreshing")
        browser.get(f"{cluster.master.url}/webhooks?source=shop")
        follow(browser, find(browser, "tbody a").click)
        before = len(receiver.taken)
        follow(browser, lambda: press(browser, "Send"))
        # The receiver rejects some; only the request and its result count here.
        wait_for(browser, lambda: "failed, of 1" in read(browser), "not sent")
        assert len(receiver.taken) == before + 1


def test_the_console_works_with_the_keyboard(cluster: Cluster, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(cluster.master.url)
    seen = []
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(browser.switch_to.active_element.text)
        if seen[-1] == "Sync now":
            break
    assert seen[0] == "Skip to the content"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(browser, lambda: "Synced." in read(browser, "#progress"), "not synced by keyboard")


def test_a_stale_page_is_marked(cluster: Cluster, browser: Any) -> None:
    """Stop the master under an open page, and start it again. This is the last test here."""
    browser.get(cluster.master.url)
    find(browser, "#live a").send_keys("")  # focus, as with the keyboard
    focused = browser.switch_to.active_element.get_attribute("href")
    browser.execute_script("return refresh()")
    assert browser.switch_to.active_element.get_attribute("href") == focused
    cluster.master.stop()
    press(browser, "Sync now")
    wait_for(browser, lambda: "does not respond" in read(browser, "[role=alert]"), "looks alive")
    assert find(browser, "#live").get_attribute("class") == "stale"
    assert find(browser, "#sync button").is_enabled()
    cluster.master.start()
    cluster.wait_until_healthy()
    press(browser, "Sync now")
    wait_for(browser, lambda: "Synced." in read(browser, "#progress"), "not synced again")
    wait_for(
        browser,
        lambda: browser.find_elements("css selector", "[role=alert]") == [],
        "still looks dead",
    )
