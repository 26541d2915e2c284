"""Screenshots of every page of the console: ``python -m tests.support.console.screenshots FOLDER``.

Each page is shown on a wide screen and a phone, light and dark; the overview healthy and degraded.
A page that is wider than the screen, and a serious fault that axe-core finds, is an error.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

from portable_core.adapters.sqlite import SqliteStore
from portable_core.demo.cluster import Cluster, trigger_sync
from portable_core.demo.processes import NodeProcess
from portable_core.ports import Quarantined
from portable_core.records import Meta, Pair, Record, Recovery
from tests.support.console.browsers import (
    PHONE,
    WIDE,
    find_faults,
    open_browser,
    resize,
    set_scheme,
)
from tests.support.console.console_pages import find, follow, log_in
from tests.support.nodes.receivers import run_receiver

_HOUR = 3_600_000
_SPAN_S = 2

#: Event and weight by source.
_SOURCES = {
    "github": (("push", 12), ("pull_request", 7), ("check_run", 5)),
    "stripe": (("invoice.paid", 5), ("charge.failed", 2)),
    "shop": (("orders/create", 3),),
}


def fill_master(folder: Path, now: int) -> None:
    """Store the webhooks of the last day."""
    store = SqliteStore(folder)
    store.open("crc32c")
    records = []
    for hour in range(1, 24):
        for source, events in _SOURCES.items():
            for event, weight in events:
                for number in range(weight * (1 + (hour * 7 + len(event)) % 5)):
                    records.append(_make_record(now, hour, source, event, number))
    store.append(records)
    store.close()


def quarantine_one(folder: Path, now: int) -> None:
    """Set one record aside."""
    store = SqliteStore(folder)
    store.open("crc32c")
    lease = store.acquire_lease("screenshots", now, 1000)
    odd = Record(Pair(now + 9 * _HOUR, 7), b'{"clock": "ahead", "n": [1, 2]}', Meta("shop"))
    reason = "timestamp: lies 9 h after the slave's horizon"
    store.save_quarantine(lease, [Quarantined("slave-1-1-7", "slave-1", now, reason, odd)])
    store.close()


def _make_record(now: int, hour: int, source: str, event: str, number: int) -> Record:
    time_ = now - hour * _HOUR + number * 50_000 + len(event) * 1_000
    body = {"id": f"evt_{hour}{number}{event[0]}", "type": event, "hour": hour, "number": number}
    headers = {"content-type": "application/json"}
    if source != "stripe":
        headers |= {"x-github-event": event, "x-github-delivery": f"{hour:04}-{number:04}"}
    recovered = hour in (5, 6) and number % 2
    recovery = Recovery("slave-2", time_ + 60_000) if recovered else None
    payload = json.dumps(body).encode()
    hash_ = (hour * 1_000_003 + number * 7919 + len(event) * 104_729) % 2**32
    key = md5(payload, usedforsecurity=False).hexdigest()
    return Record(Pair(time_, hash_), payload, Meta(source, headers, key=key), recovery)


def send(node: NodeProcess, source: str, body: object, **headers: str) -> str:
    """Post a webhook; return its id, or the status of a refusal."""
    names = {"Content-Type": "application/json", **headers}
    url = f"{node.url}/webhook/{source}"
    request = urllib.request.Request(url, json.dumps(body).encode(), names)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            pair = json.load(answer)
    except urllib.error.HTTPError as error:
        return str(error.code)
    return f"{pair['timestamp']}-{pair['hash']}"


def wait_until_delivered(cluster: Cluster) -> None:
    """Wait until the application has got all webhooks, for at most half a minute."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    request = urllib.request.Request(f"{cluster.master.url}/consumers", headers=headers)
    for _ in range(300):
        with urllib.request.urlopen(request, timeout=10) as answer:
            if not any(each["lag_ms"] for each in json.load(answer)["consumers"]):
                return
        time.sleep(0.1)


class Photographer:
    """Takes the pictures of one cluster in one browser."""

    def __init__(self, browser: Any, url: str, folder: Path) -> None:
        self._browser, self._url, self._folder = browser, url, folder
        self.faults: list[str] = []

    def take(self, pages: Mapping[str, str]) -> None:
        """Save four pictures of each page, by its name."""
        for name, path in pages.items():
            for screen, size in (("desktop", WIDE), ("phone", PHONE)):
                resize(self._browser, size)
                for scheme in ("light", "dark"):
                    set_scheme(self._browser, scheme)
                    self._browser.get(self._url + path)
                    self._save(f"{name}-{screen}-{scheme}", size[0])

    def _save(self, name: str, width: int) -> None:
        needed = "return document.documentElement.scrollWidth"
        if self._browser.execute_script(needed) > width:
            self.faults.append(f"{name}: wider than the screen")
        self.faults += [f"{name}: {fault}" for fault in find_faults(self._browser)]
        options = {"format": "png", "captureBeyondViewport": True}
        found = self._browser.execute_cdp_cmd("Page.captureScreenshot", options)
        (self._folder / f"{name}.png").write_bytes(base64.b64decode(found["data"]))


def photograph(folder: Path) -> list[str]:
    """Save all pictures in a folder; return what is wrong with the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time_ns() // 1_000_000
    with (
        tempfile.TemporaryDirectory() as scratch,
        run_receiver(lambda body: 400 if b"flaky" in body else 204) as receiver,
    ):
        fill_master(Path(scratch, "master"), now)
        cluster = Cluster(
            Path(scratch),
            2,
            {"SPAN_S": str(_SPAN_S), "SOURCES": "signed=github:s3cret"},
            {
                "REPLAY_TARGETS": receiver.url,
                "FORWARD_URL": receiver.url,
                "FORWARD_OPTIONS": "--rejections 1",
            },
        )
        try:
            cluster.start()
            return _photograph(cluster, folder, Path(scratch, "master"))
        finally:
            cluster.stop()


def _photograph(cluster: Cluster, folder: Path, store: Path) -> list[str]:
    for attempt, node in enumerate((cluster.master, *cluster.slaves), 1):
        send(node, "pay", {"id": "evt_1", "attempt": attempt, "total": 100})
    retry = [send(cluster.master, "shop", {"id": 1}, **{"X-Attempt-Number": "1"})]
    for number in range(5):
        send(cluster.slaves[0], "shop", {"missed": number})
    time.sleep(_SPAN_S + 0.5)
    retry.append(send(cluster.master, "shop", {"id": 1}, **{"X-Attempt-Number": "2"}))
    time.sleep(_SPAN_S + 0.5)
    trigger_sync(cluster.master.url, cluster.token)
    with open_browser() as browser:
        camera = Photographer(browser, cluster.master.url, folder)
        camera.take({"login": "/login"})
        log_in(browser, cluster)
        wait_until_delivered(cluster)
        camera.take({"overview-healthy": "/"})

        cluster.master.stop()
        quarantine_one(store, time.time_ns() // 1_000_000)
        cluster.master.start()
        cluster.wait_until_healthy()
        order = {"id": 4711, "note": "flaky", "items": [{"sku": "A-1", "count": 2}]}
        found = send(cluster.master, "shop", order, **{"X-GitHub-Event": "orders/create"})
        send(cluster.master, "signed", {"n": 1})
        browser.get(f"{cluster.master.url}/webhooks/{found}")
        follow(browser, find(browser, "form.card button:not([type])").click)
        replay = browser.current_url.removeprefix(cluster.master.url)
        camera.take(
            {
                "webhooks": "/webhooks",
                "webhooks-search": "/webhooks?source=github&event=push&last=24h&origin=recovered",
                "webhooks-filters": "/webhooks?id=absent&slave=slave-1",
                "webhook": f"/webhooks/{found}",
                "copies": f"/webhooks/{retry[1]}/copies",
                "compare": f"/webhooks/{retry[0]}/compare/{retry[1]}",
                "quarantine": "/quarantine",
                "replays": "/replays",
                "replay": replay,
                "dead-letters": "/dead-letters",
                "error": "/webhooks/1-1",
            }
        )
        cluster.slaves[0].stop()
        trigger_sync(cluster.master.url, cluster.token)
        camera.take({"overview-degraded": "/"})
        return camera.faults


def main() -> None:
    """Print what is wrong with the pages; exit 1 if anything is."""
    faults = photograph(Path(sys.argv[1]))
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
