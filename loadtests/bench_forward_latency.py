"""``make bench-forward-latency``: from the sender's 200 to the receiver behind ``forward``.

    .venv/bin/python -m loadtests.bench_forward_latency [--rates 10,100,1000] [--seconds 10]

Senders send at a fixed rate to a master; the receiver is behind ``webhook-sync forward``. The clock
is the machine's monotonic one, in all processes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.bench_forward import forwarding, receiving, serving, wait_for
from loadtests.machine import describe_machine
from portable_core.demo.processes import find_free_port

_SENDERS = 16


def send(port: int, first: int, rate: int, seconds: float) -> dict[int, float]:
    """Send webhooks at a rate; return the time of each one's 200."""
    answered: dict[int, float] = {}
    began = time.monotonic() + 0.2

    def send_some(index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(index, round(rate * seconds), _SENDERS):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            body = b'{"number":%d,"padding":"%b"}' % (first + number, b"x" * 950)
            path = f"/webhook/s{number % 100}"
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                answered[first + number] = time.monotonic()
        connection.close()

    threads = [threading.Thread(target=send_some, args=(index,)) for index in range(_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered


def find_quantile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[min(int(share * len(sorted_values)), len(sorted_values) - 1)]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="10,100,1000")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    machine = describe_machine()
    title = f"{machine['processor']}, load {machine['load average']}"
    table = Table(title=title, title_justify="left")
    for column in ("webhooks/s", "webhooks", "p50 ms", "p99 ms", "most ms"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder, port, total = Path(name), find_free_port(), 0
        with (
            serving(folder) as master,
            receiving(port, 0.0),
            forwarding(master, port, folder, options.concurrency),
        ):
            total += len(send(master.port, 0, 1, 1.0))
            wait_for(port, total)  # forward has started
            for rate in map(int, options.rates.split(",")):
                answered = send(master.port, total, rate, options.seconds)
                total += len(answered)
                wait_for(port, total)
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/times") as response:
                    times: dict[str, float] = json.load(response)
                waits = sorted(
                    max(times[str(number)] - when, 0.0) * 1000 for number, when in answered.items()
                )
                table.add_row(
                    str(rate),
                    str(len(waits)),
                    *(f"{find_quantile(waits, share):.1f}" for share in (0.5, 0.99, 1.0)),
                )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
