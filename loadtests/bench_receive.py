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
_SENDERS = (1, 16, 64)
_THREADS = "32"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to measure: its command with ``{port}``, its settings with ``{folder}``."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    path: str = "/webhook"


def _granian(target: str) -> tuple[str, ...]:
    return (
        *(str(_BIN / "granian"), "--interface", "wsgi", "--port", "{port}", "--workers", "1"),
        *("--blocking-threads", _THREADS, "--backpressure", "256", "--no-ws", target),
    )


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
    Peer(
        "slave, container",
        (str(_BIN / "webhook-sync"), "serve", "--role", "slave", "--host", "127.0.0.1"),
        _OURS,
    ),
    Peer("nothing stored (granian)", _granian("loadtests.peers.storeless:app"), {}),
    Peer("slave, gunicorn threads", _gunicorn("containers.slave.app:app"), _OURS),
    Peer("nothing stored (gunicorn threads)", _gunicorn("loadtests.peers.storeless:app"), {}),
    Peer("slave, function", _function("functions/main.py", "slave"), _OURS),
    Peer(
        "nothing stored (function)",
        _function("loadtests/peers/bare_function.py", "webhook"),
        {},
    ),
    Peer(
        "FastAPI + aiosqlite",
        (
            *(str(_BIN / "uvicorn"), "--port", "{port}", "--log-level", "warning"),
            "loadtests.peers.fastapi_aiosqlite:app",
        ),
        _DATABASE,
    ),
    Peer("Flask + sqlitedict", _gunicorn("loadtests.peers.flask_sqlitedict:app"), _DATABASE),
)


def _run(peer: Peer, seconds: float, folder: Path) -> dict[int, dict[str, float]]:
    port = find_free_port()
    env = {name: value.format(folder=folder) for name, value in peer.env.items()}
    command = ["taskset", "-c", "0", *(part.format(port=port) for part in peer.command)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, "PORT": str(port), "PYTHONPATH": str(_ROOT), **env},
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


def run(rounds: int, seconds: float, names: str) -> list[dict[str, object]]:
    """Measure every peer ``rounds`` times; a round measures each once, so that drift is shared."""
    chosen = [peer for peer in _PEERS if names in peer.name]
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
    parser.add_argument("--only", default="", help="a part of a server's name")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    rows = run(arguments.rounds, arguments.seconds, arguments.only)
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
    def rate(name: str) -> float:
        for row in rows:
            if row["server"] == name and row["senders"] == 64:
                rates = row["rates"]
                assert isinstance(rates, list)
                return float(statistics.median(rates))
        return float("nan")

    ours, function = rate("slave, container"), rate("slave, function")
    better = max(rate("FastAPI + aiosqlite"), rate("Flask + sqlitedict"))
    ceiling, bare = rate("nothing stored (granian)"), rate("nothing stored (function)")
    print("At 64 senders:")
    print(f"  container's slave / its server storing nothing: {ours / ceiling:.2f}")
    print(f"  container's slave / the better plain application: {ours / better:.2f}")
    print(f"  function's slave / a bare function: {function / bare:.2f}")


if __name__ == "__main__":
    main()
