"""``webhook-sync demo``: the main job, from the first webhook to the proof that nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import click
from rich.console import Console

from portable_core.cli.options import examples
from portable_core.demo.check import judge
from portable_core.demo.cluster import SPAN_S, Cluster
from portable_core.demo.emulator import HOST_VARIABLE, FirestoreEmulator
from portable_core.demo.show import Progress, show_nodes, show_syncs, show_verdict
from portable_core.demo.traffic import Ledger, make_payloads, send_all

_RATE = 40  # webhooks a second
_MASTER_AWAY = (0.25, 0.45)  # parts of the sending during which a node is away
_SLAVE_AWAY = (0.55, 0.8)


@click.command(
    "demo",
    short_help="Lose nothing, on this machine: kill nodes, sync, check.",
    epilog=examples(
        "webhook-sync demo",
        "webhook-sync demo --webhooks 2000 --slaves 4 --seed 7",
        "webhook-sync demo --keep",
        "webhook-sync demo --no-sync",
    ),
)
@click.option(
    "--webhooks",
    type=click.IntRange(20, 20_000),
    default=400,
    show_default=True,
    help="Number of webhooks to send to each node.",
)
@click.option(
    "--slaves",
    type=click.IntRange(2, 8),
    default=2,
    show_default=True,
    help="Number of slaves to start.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Seed of the payloads and spellings."
)
@click.option("--keep", is_flag=True, help="Keep the nodes running until Ctrl-C.")
@click.option("--no-sync", is_flag=True, help="Skip the sync, so that the check fails.")
@click.option(
    "--remove-one", is_flag=True, help="Delete one webhook from the master's store, for the sync."
)
@click.option(
    "--firestore", is_flag=True, help="Store the master's webhooks in a Firestore emulator."
)
def demo_command(
    webhooks: int,
    slaves: int,
    seed: int,
    keep: bool,
    no_sync: bool,
    remove_one: bool,
    firestore: bool,
) -> None:
    """Send webhooks to a master and slaves, kill nodes, sync, and check that nothing is lost.

    The nodes run on this machine until the demo ends.

    Exit code 0 if the master has every acknowledged webhook exactly once, 1 otherwise.
    """
    _end_as_by_ctrl_c()
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=100, markup=False, emoji=False)
    if firestore and remove_one:
        raise click.UsageError("--remove-one works on the master's files, not on Firestore")
    folder = Path(tempfile.mkdtemp(prefix="webhook-sync-demo-"))
    emulator = FirestoreEmulator()
    master_env = _use_firestore(emulator) if firestore else {}
    cluster = Cluster(folder, slaves, master_env=master_env)
    random = Random(seed)  # noqa: S311  # repeatable, not secret
    ledger = Ledger(make_payloads(webhooks, random))
    ok = False
    try:
        with Progress(console) as progress:
            progress.say(f"starting the master and {slaves} slaves")
            cluster.start()
            asyncio.run(_send(cluster, ledger, seed, progress, remove_one))
            progress.say(f"waiting one span ({SPAN_S} s), after which a webhook counts as missing")
            time.sleep(SPAN_S * 1.25 + 0.5)  # a store with several writers settles later
            cluster.wait_until_healthy()
            before = cluster.read_all()
            reports = [] if no_sync else cluster.sync(progress.say)
            after = cluster.read_all()
        verdict = judge(ledger, after[cluster.master.name])
        show_nodes(console, ledger, cluster, before, after)
        show_syncs(console, reports)
        show_verdict(console, ledger, verdict)
        ok = verdict.holds and all(report["ok"] for report in reports)
        if keep:
            _wait_for_interrupt(console, cluster)
    finally:
        codes = cluster.stop()
        emulator.stop()
        if keep:
            console.print(f"The nodes' stores and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    stopped_well = all(code == 0 for code in codes.values())
    if not stopped_well:
        console.print(f"A node did not stop in order: {codes}")
    sys.exit(0 if ok and stopped_well else 1)


def _end_as_by_ctrl_c() -> None:
    """Let whatever ends this process end the nodes too, which outlive a terminal by themselves."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _use_firestore(emulator: FirestoreEmulator) -> dict[str, str]:
    """The master's settings for a new database on the emulator."""
    database = f"demo-{secrets.token_hex(6)}"
    return {"STORE": f"firestore:webhook-sync-demo/{database}", HOST_VARIABLE: emulator.start()}


async def _send(
    cluster: Cluster, ledger: Ledger, seed: int, progress: Progress, remove_one: bool
) -> None:
    count = len(ledger.payloads)
    victim = cluster.slaves[-1]
    tasks: list[asyncio.Future[object]] = []
    loop = asyncio.get_running_loop()
    one_by_one = ThreadPoolExecutor(1)  # a node starts again only once it has stopped

    def restart_master() -> None:
        if remove_one:
            cluster.remove_one_from_master()
        cluster.master.start()

    plan: dict[int, tuple[str, Callable[[], object]]] = {
        int(count * _MASTER_AWAY[0]): ("SIGKILL to the master", cluster.master.kill),
        int(count * _MASTER_AWAY[1]): ("the master starts again", restart_master),
        int(count * _SLAVE_AWAY[0]): (f"{victim.name} goes away", victim.stop),
        int(count * _SLAVE_AWAY[1]): (f"{victim.name} comes back", victim.start),
    }

    async def tick(index: int) -> None:
        progress.advance(index, count)
        if index in plan:
            what, act = plan[index]
            progress.say(what)
            tasks.append(loop.run_in_executor(one_by_one, act))

    targets = [(node.name, node.url) for node in cluster.nodes]
    await send_all(ledger, targets, count / _RATE, seed, tick)
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
    console.print("Ctrl-C (or SIGTERM) stops everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
