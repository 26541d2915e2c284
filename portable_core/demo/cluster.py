"""A master and its slaves on this machine, each with a SQLite folder of its own."""

from __future__ import annotations

import json
import secrets
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from portable_core.demo.processes import NodeProcess, can_run_functions
from portable_core.errors import Unavailable
from portable_core.ingest.receiver import name_algorithm
from portable_core.records import MAX_INTEGER, Record
from portable_core.settings import Settings
from portable_core.wiring import build_store

#: The span of the nodes in seconds. Short, because the demonstration waits for one.
SPAN_S = 5

_SYNCS = 5
_NO_FUNCTIONS = (
    "slave-1 runs as a container: functions-framework is not installed "
    "(pip install 'webhook-sync[functions]')"
)


class Cluster:
    """A master and ``slaves`` slaves.

    The first slave runs under functions-framework, as Cloud Functions run it, if that is installed.
    All other nodes run as containers do. ``note`` explains a first slave that does not.
    """

    def __init__(
        self,
        folder: Path,
        slaves: int,
        env: Mapping[str, str] | None = None,
        master_env: Mapping[str, str] | None = None,
        sources: str = "",
    ) -> None:
        """Make the nodes, not started. ``sources`` is the content of their ``SOURCES_FILE``.

        ``env`` holds settings of every node; ``master_env`` holds the master's own, which may name
        a store outside ``folder``.
        """
        self.note = "" if can_run_functions() else _NO_FUNCTIONS
        self.token = secrets.token_urlsafe(24)
        self.console_token = secrets.token_urlsafe(24)
        self._folder = folder
        self._env = {"SPAN_S": str(SPAN_S), "SYNC_TOKENS": self.token, **(env or {})}
        if sources:
            (folder / "sources.toml").write_text(sources)
            self._env["SOURCES_FILE"] = str(folder / "sources.toml")
        self.slaves = [self._make_slave(number) for number in range(1, slaves + 1)]
        addresses = ",".join(f"{slave.name}={slave.url}" for slave in self.slaves)
        self.master = NodeProcess(
            "master",
            "master",
            "container",
            {
                **self._env,
                "STORE": f"sqlite:{folder / 'master'}",
                "SLAVES": addresses,
                "CONSOLE_TOKEN": self.console_token,
                "REPLAY_TARGETS": f"{self.slaves[-1].url}/webhook",
                **(master_env or {}),
            },
            folder / "master.log",
        )

    def _make_slave(self, number: int) -> NodeProcess:
        name = f"slave-{number}"
        return NodeProcess(
            name,
            "slave",
            "function" if number == 1 and not self.note else "container",
            {**self._env, "STORE": f"sqlite:{self._folder / name}"},
            self._folder / f"{name}.log",
        )

    @property
    def nodes(self) -> list[NodeProcess]:
        return [self.master, *self.slaves]

    def start(self) -> None:
        """Start every node and wait until all accept webhooks."""
        for node in self.nodes:
            node.start()
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        for node in self.nodes:
            node.wait_until_healthy()

    def stop(self) -> dict[str, int]:
        """Stop every node. Returns the exit codes by name; no process is left."""
        return {node.name: node.stop() for node in self.nodes}

    def read_all(self) -> dict[str, list[Record]]:
        """Return the records of every node by its name, read from its store while it runs."""
        return {node.name: read_records(node.env) for node in self.nodes}

    def sync(self, log: Callable[[str], None]) -> list[dict[str, Any]]:
        """Trigger syncs until one fails or has no warning, but not without end. Returns reports."""
        reports = []
        for _ in range(_SYNCS):
            log("sync")
            report = trigger_sync(self.master.url, self.token)
            reports.append(report)
            if not report["ok"] or not any(slave["warning"] for slave in report["slaves"]):
                break
        return reports

    def remove_one_from_master(self) -> None:
        """Delete one record from the folder of the stopped master."""
        from portable_core.adapters.sqlite.reader import TABLE

        for file in sorted((self._folder / "master").glob("[0-9]*.sqlite3")):
            with closing(sqlite3.connect(file)) as connection, connection:
                gone = connection.execute(
                    f'DELETE FROM "{TABLE}" WHERE key = (SELECT min(key) FROM "{TABLE}")'  # noqa: S608  # a constant
                )
                if gone.rowcount:
                    return
        raise Unavailable("the master has no record that could be removed")


def read_records(env: Mapping[str, str]) -> list[Record]:
    """Return all records in the store of a node with these settings; its process may be running."""
    settings = Settings.from_env("master", {"SYNC_AUTH": "none", **env})
    store = build_store(settings, read_only=True)
    store.open(name_algorithm(settings))
    try:
        return list(store.records(0, MAX_INTEGER))
    finally:
        store.close()


def trigger_sync(url: str, token: str, timeout_s: float = 300) -> dict[str, Any]:
    """Request ``POST /trigger-sync``. Returns the report, also if a slave failed."""
    request = urllib.request.Request(  # noqa: S310  # loopback
        f"{url}/trigger-sync", method="POST", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310  # loopback
            report: dict[str, Any] = json.load(response)
            return report
    except urllib.error.HTTPError as error:
        document: dict[str, Any] = json.load(error)
        if "slaves" in document:
            return document
        raise Unavailable(f"the master rejected the sync: {document.get('detail')}") from error
