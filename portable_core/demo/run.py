"""The demonstration from the first webhook to the check that nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rich.console import Console

from portable_core.demo.check import check
from portable_core.demo.cluster import SPAN_S, Cluster
from portable_core.demo.emulator import HOST_VARIABLE, FirestoreEmulator
from portable_core.demo.provider import SENT, DemoProvider
from portable_core.demo.show import DemoProgress, show_check, show_log, show_nodes, show_syncs
from portable_core.demo.traffic import (
    SOURCES_FILE,
    Deliveries,
    make_logged_webhooks,
    make_webhooks,
    send_all,
)

_RATE = 40  # webhooks a second
_MASTER_DOWN = (0.25, 0.45)  # the part of the webhooks that is sent while the master is down
_SLAVE_DOWN = (0.55, 0.8)


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The options of the command.

    ``keep``: keep the nodes until Ctrl-C; ``remove_one``: delete one record of the master's store;
    ``firestore``: the master's store is a Firestore emulator; ``provider_log``: a provider sends
    webhooks while no node runs, and has a delivery log.
    """

    webhooks: int
    slaves: int
    seed: int
    keep: bool
    sync: bool
    remove_one: bool
    firestore: bool
    provider_log: bool = False


def run_demo(plan: DemoPlan) -> bool:
    """Run the demonstration. Returns whether nothing was lost and every node stopped cleanly."""
    stop_on_signals()
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=100, markup=False, emoji=False)
    folder = Path(tempfile.mkdtemp(prefix="webhook-sync-demo-"))
    emulator = FirestoreEmulator()
    try:
        with DemoProvider() as provider:
            master_env = _use_firestore(emulator) if plan.firestore else {}
            if plan.provider_log:
                master_env |= provider.make_settings("github")
            cluster = Cluster(folder, plan.slaves, master_env=master_env, sources=SOURCES_FILE)
            ok = _run(plan, cluster, provider, console)
    finally:
        emulator.stop()
        if plan.keep:
            console.print(f"The nodes' stores and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return ok


def _run(plan: DemoPlan, cluster: Cluster, provider: DemoProvider, console: Console) -> bool:
    random = Random(plan.seed)  # noqa: S311  # repeatable, not secret
    deliveries = Deliveries(make_webhooks(plan.webhooks, random))
    if plan.provider_log:
        deliveries.logged = make_logged_webhooks(SENT, random)
    ok = False
    requests: list[int] = []
    try:
        with DemoProgress(console) as progress:
            progress.log(f"starting the master and {plan.slaves} slaves")
            if cluster.note:
                progress.log(cluster.note)
            cluster.start()
            asyncio.run(_send(plan, cluster, deliveries, progress))
            if plan.provider_log:
                _send_to_nobody(cluster, provider, deliveries, progress)
            progress.log(f"waiting one span ({SPAN_S} s), after which a webhook counts as missing")
            time.sleep(SPAN_S * 1.25 + 0.5)  # the horizon of a store with several writers is older
            cluster.wait_until_healthy()
            before = cluster.read_all()
            reports = cluster.sync(progress.log) if plan.sync else []
            requests.append(provider.requests)
            if plan.provider_log and plan.sync:
                reports += cluster.sync(progress.log)
            requests.append(provider.requests - requests[0])
            after = cluster.read_all()
        result = check(deliveries, after[cluster.master.name])
        show_nodes(console, deliveries, cluster, before, after)
        show_syncs(console, reports)
        if plan.provider_log:
            show_log(console, result, len(deliveries.logged), requests)
        show_check(console, deliveries, result)
        ok = result.ok and all(report["ok"] for report in reports)
        if plan.keep:
            _wait_for_interrupt(console, cluster)
    finally:
        codes = cluster.stop()
    if any(codes.values()):
        console.print(f"Nodes did not stop cleanly; exit codes: {codes}")
    return ok and not any(codes.values())


def _send_to_nobody(
    cluster: Cluster, provider: DemoProvider, deliveries: Deliveries, progress: DemoProgress
) -> None:
    """Stop all nodes, make the provider send, and start the nodes again."""
    progress.log(f"stopping all nodes; a provider sends {len(deliveries.logged)} webhooks, once")
    cluster.stop()
    provider.send(cluster.master.url, deliveries.logged)
    progress.log("starting all nodes again")
    cluster.start()


def stop_on_signals() -> None:
    """Raise ``KeyboardInterrupt`` on SIGTERM and SIGHUP too, so that the nodes are stopped.

    The nodes have process groups of their own, which a closing terminal does not end.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _use_firestore(emulator: FirestoreEmulator) -> dict[str, str]:
    """Return the master's settings for a new database on the emulator."""
    database = f"demo-{secrets.token_hex(6)}"
    return {"STORE": f"firestore:webhook-sync-demo/{database}", HOST_VARIABLE: emulator.start()}


async def _send(
    plan: DemoPlan, cluster: Cluster, deliveries: Deliveries, progress: DemoProgress
) -> None:
    count = len(deliveries.webhooks)
    slave = cluster.slaves[-1]
    tasks: list[asyncio.Future[object]] = []
    loop = asyncio.get_running_loop()
    one_by_one = ThreadPoolExecutor(1)  # a node is started only once it has stopped

    def restart_master() -> None:
        if plan.remove_one:
            cluster.remove_one_from_master()
        cluster.master.start()

    faults: dict[int, tuple[str, Callable[[], object]]] = {
        int(count * _MASTER_DOWN[0]): ("SIGKILL to the master", cluster.master.kill),
        int(count * _MASTER_DOWN[1]): ("starting the master again", restart_master),
        int(count * _SLAVE_DOWN[0]): (f"stopping {slave.name}", slave.stop),
        int(count * _SLAVE_DOWN[1]): (f"starting {slave.name} again", slave.start),
    }

    async def tick(index: int) -> None:
        progress.advance(index, count)
        if index in faults:
            text, act = faults[index]
            progress.log(text)
            tasks.append(loop.run_in_executor(one_by_one, act))

    targets = [(node.name, node.url) for node in cluster.nodes]
    await send_all(deliveries, targets, count / _RATE, plan.seed, tick)
    await asyncio.gather(*tasks)
    progress.advance(count, count)


def _wait_for_interrupt(console: Console, cluster: Cluster) -> None:
    console.print(f"The master listens at {cluster.master.url} (token {cluster.token}).")
    addresses = ", ".join(f"{slave.name} at {slave.url}" for slave in cluster.slaves)
    console.print(f"The slaves: {addresses} (the same token).", highlight=False, soft_wrap=True)
    console.print(
        f"The console: {cluster.master.url}/ (console token {cluster.console_token})",
        highlight=False,
        soft_wrap=True,
    )
    console.print("Ctrl-C (or SIGTERM) stops all nodes.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
