"""``webhook-sync demo``: run nodes on this machine, kill some, and check that nothing is lost."""

from __future__ import annotations

import sys

import click

from portable_core.cli.options import examples


@click.command(
    "demo",
    short_help="Kill nodes on this machine, sync, and check that nothing is lost.",
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
    "--remove-one",
    is_flag=True,
    help="Delete one webhook from the master's store while the master is down.",
)
@click.option(
    "--firestore", is_flag=True, help="Store the master's webhooks in a Firestore emulator."
)
@click.option(
    "--provider-log",
    is_flag=True,
    help="Also send webhooks while no node runs; their provider has a delivery log.",
)
def demo_command(
    webhooks: int,
    slaves: int,
    seed: int,
    keep: bool,
    no_sync: bool,
    remove_one: bool,
    firestore: bool,
    provider_log: bool,
) -> None:
    """Send webhooks to a master and slaves, kill nodes, sync, and check that nothing is lost.

    The nodes run on this machine until the demo ends.

    Exit code 0 if the master has every acknowledged webhook exactly once, 1 otherwise.
    """
    from portable_core.demo.run import DemoPlan, run_demo

    if firestore and remove_one:
        raise click.UsageError("--remove-one works on the master's files, not on Firestore")
    plan = DemoPlan(webhooks, slaves, seed, keep, not no_sync, remove_one, firestore, provider_log)
    sys.exit(0 if run_demo(plan) else 1)
