"""``make bench-receive``: durable webhooks a second beside plain applications, in one run.

Every server is pinned to one core and the load generator to another. All that store do so on a real
disk with ``synchronous=FULL``. The figures to compare are the ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from portable_core.demo.processes import find_free_port

_BIN = Path(sys.executable).parent
_ROOT = Path(__file__).parents[1]
_SENDERS = (1, 16, 64, 256)
_THREADS = "32"
_EARLIER = "slave, container, earlier version"


@dataclass(frozen=True, slots=True)
class BenchPeer:
    """A server to measure: its command with ``{port}``, its settings with ``{folder}``."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    path: str = "/webhook"
    folder: Path = _ROOT


def _gunicorn(target: str) -> tuple[str, ...]:
    return (
        *(str(_BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", "--workers", "1"),
        *("--threads", _THREADS, "--worker-connections", "256", target),
    )


def _function(source: str, target: str) -> tuple[str, ...]:
    return (
        *(str(_BIN / "functions-framework"), "--source", str(_ROOT / source)),
        *("--target", target, "--host", "127.0.0.1", "--port", "{port}"),
    )


_OURS = {"SYNC_TOKENS": "bench", "STORE": "sqlite:{folder}/store", "THREADS": _THREADS}
_DATABASE = {"DATABASE": "{folder}/peer.sqlite3"}
_PEERS = (
    BenchPeer(
        "slave, container",
        (str(_BIN / "webhook-sync"), "serve", "--role", "slave", "--host", "127.0.0.1"),
        _OURS,
    ),
    BenchPeer(
        "slave, container, nothing stored",
        (
            *(sys.executable, "-m", "loadtests.peers.storeless_node"),
            *("serve", "--role", "slave", "--host", "127.0.0.1"),
        ),
        {"SYNC_TOKENS": "bench", "STORE": "memory:", "ALLOW_EPHEMERAL": "1"},
    ),
    BenchPeer("slave, gunicorn threads", _gunicorn("containers.slave.app:app"), _OURS),
    BenchPeer("nothing stored (gunicorn threads)", _gunicorn("loadtests.peers.storeless:app"), {}),
    BenchPeer("slave, function", _function("functions/main.py", "slave"), _OURS),
    BenchPeer(
        "nothing stored (function)",
        _function("loadtests/peers/bare_function.py", "webhook"),
        {},
    ),
    BenchPeer(
        "FastAPI + aiosqlite",
        (
            *(str(_BIN / "uvicorn"), "--port", "{port}", "--log-level", "warning"),
            "loadtests.peers.fastapi_aiosqlite:app",
        ),
        _DATABASE,
    ),
    BenchPeer("Flask + sqlitedict", _gunicorn("loadtests.peers.flask_sqlitedict:app"), _DATABASE),
)


_COMPARED = (
    ("slave, container", "slave, container, nothing stored"),
    ("slave, container", _EARLIER),
    ("slave, container", "FastAPI + aiosqlite"),
    ("slave, container", "Flask + sqlitedict"),
    ("slave, gunicorn threads", "nothing stored (gunicorn threads)"),
    ("slave, function", "nothing stored (function)"),
)


def _find_earlier(folder: Path) -> BenchPeer:
    """Return the container of another version: a checkout with its own ``.venv``."""
    command = str(folder / ".venv" / "bin" / "webhook-sync")
    arguments = ("serve", "--role", "slave", "--host", "127.0.0.1")
    return BenchPeer(_EARLIER, (command, *arguments), _OURS, folder=folder)


def _run(peer: BenchPeer, seconds: float, folder: Path) -> dict[int, dict[str, float]]:
    port = find_free_port()
    env = {name: value.format(folder=folder) for name, value in peer.env.items()}
    command = ["taskset", "-c", "0", *(part.format(port=port) for part in peer.command)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=peer.folder,
            env={**os.environ, "PORT": str(port), "PYTHONPATH": str(peer.folder), **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(port, server, folder / "log")
        return {senders: _load(port, peer.path, senders, seconds) for senders in _SENDERS}
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not start: {log.read_text(errors='replace')[-800:]}")


def _load(port: int, path: str, senders: int, seconds: float) -> dict[str, float]:
    command = ["taskset", "-c", "1", sys.executable, str(_ROOT / "loadtests" / "generator.py")]
    done = subprocess.run(
        [*command, str(port), path, str(senders), str(seconds)],
        check=True,
        capture_output=True,
        timeout=seconds + 60,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def run(
    rounds: int, seconds: float, names: str, earlier: Path | None = None
) -> list[dict[str, object]]:
    """Measure every peer ``rounds`` times; a round measures each once, so that drift is shared."""
    peers = [*_PEERS, *([_find_earlier(earlier.resolve())] if earlier else [])]
    chosen = [peer for peer in peers if any(name in peer.name for name in names.split("|"))]
    results: dict[str, list[dict[int, dict[str, float]]]] = {peer.name: [] for peer in chosen}
    for _ in range(rounds):
        for peer in chosen:
            folder = Path(tempfile.mkdtemp(prefix="bench-", dir=_ROOT))
            try:
                results[peer.name].append(_run(peer, seconds, folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return [
        {
            "server": name,
            "senders": senders,
            "rates": [run[senders]["rate"] for run in runs],
            "p50": statistics.median(run[senders]["p50"] for run in runs),
            "p99": statistics.median(run[senders]["p99"] for run in runs),
            "refused": sum(run[senders]["refused"] for run in runs),
        }
        for name, runs in results.items()
        for senders in _SENDERS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="", help="parts of servers' names, separated by |")
    parser.add_argument("--earlier", type=Path, help="a checkout of another version, with .venv")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    rows = run(arguments.rounds, arguments.seconds, arguments.only, arguments.earlier)
    table = Table(title="Webhooks a second, one core for the server (median; spread of the rounds)")
    for column in ("server", "senders", "a second", "spread", "p50 ms", "p99 ms", "refused"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for row in rows:
        rates = row["rates"]
        assert isinstance(rates, list)
        table.add_row(
            str(row["server"]),
            str(row["senders"]),
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            f"{row['p50']:.1f}",
            f"{row['p99']:.1f}",
            f"{row['refused']:.0f}",
        )
    Console(width=110).print(table)
    _print_ratios(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def _print_ratios(rows: list[dict[str, object]]) -> None:
    """Print the ratios of what was measured."""
    rates: dict[tuple[object, object], list[float]] = {}
    for row in rows:
        measured = row["rates"]
        assert isinstance(measured, list)
        rates[row["server"], row["senders"]] = measured
    for senders in _SENDERS:
        print(f"At {senders} senders:")
        for ours, other in _COMPARED:
            if (ours, senders) in rates and (other, senders) in rates:
                rounds = zip(rates[ours, senders], rates[other, senders], strict=True)
                ratios = sorted(a / b for a, b in rounds)
                median = statistics.median(ratios)
                print(f"  {ours} / {other}: {median:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
