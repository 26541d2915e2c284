"""The model of cost agrees with the documents, the services and the buffer."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest

from loadtests.capacity import (
    COMMIT_S,
    CONCURRENCY,
    MEMORY_GIB,
    NODES,
    RATES,
    STORED_BYTES,
    count_commits,
    count_instances,
    count_master,
    count_slave,
    estimate_firestore,
    estimate_sqlite,
    format_row,
    measure_stored,
)

ROOT = Path(__file__).parents[2]
#: Webhooks a second of one core, as in the guide.
PER_CORE = 1e6 / 136

PRICES = json.loads((ROOT / "loadtests" / "prices.json").read_bytes())


def test_the_model_agrees_with_the_documented_costs() -> None:
    text = (ROOT / "docs" / "firestore.md").read_text()
    for rate, linger_ms in product((10, 100, 1000, 10_000), (5, 250, 750)):
        assert format_cost_row(rate, linger_ms) in text
    assert PRICES["date"] == "2025-06"
    assert "Prices are those of June 2025" in text


def format_cost_row(rate: int, linger_ms: int) -> str:
    """Return a row of the guide's table."""
    linger_s = linger_ms / 1000
    instances = count_instances(rate, PER_CORE, linger_s)
    shared = (rate, instances, linger_s)
    master, slave = count_master(*shared), count_slave(*shared)
    whole, copies = (
        estimate_firestore(rate, PER_CORE, PRICES, linger_s=linger_s, copies=copies).database
        for copies in (False, True)
    )
    mean, longest = 1000 * (linger_s / 2 + COMMIT_S), 1000 * (linger_s + COMMIT_S)
    return (
        f"| {rate:,} | {linger_ms} | {mean:.0f}, {longest:.0f} | {instances * NODES} "
        f"| {count_commits(*shared):.1f} | {master.writes / 1e6:,.1f} | {master.reads / 1e6:,.1f} "
        f"| {master.stored_gib:,.1f} | {master.price(PRICES):,.0f} | {slave.price(PRICES):,.0f} "
        f"| {whole:,.0f} | {copies:,.0f} |\n"
    )


def test_the_model_keeps_the_promised_costs_at_the_default() -> None:
    """One master and two slaves; Firestore accepts 500 sequential writes a second."""
    few, many, most = (estimate_firestore(r, PER_CORE, PRICES) for r in (100, 1_000, 10_000))
    assert (few.instances, round(few.database)) <= (4, 60)
    assert few.database <= 60
    assert (many.instances, round(many.database)) <= (8, 400)
    assert many.database <= 400
    assert most.used["commits on segments.key"] < 0.5


def test_the_stored_bytes_are_between_the_measured_ones() -> None:
    for size, stored in STORED_BYTES:
        assert measure_stored(size) == pytest.approx(stored)
    assert 175 < measure_stored(50) < 260
    assert measure_stored(0.5) == 1160
    assert measure_stored(9000) == pytest.approx(125)


def test_the_printed_model_is_that_of_the_guide() -> None:
    text = (ROOT / "docs" / "load.md").read_text()
    [(core, pair)] = re.findall(r"One core: (\d+) µs a webhook, ([\d.]+) µs a pair", text)
    for rate in RATES:
        figures = (rate, 1e6 / float(core), PRICES, 1e6 / float(pair))
        for estimate in (estimate_sqlite(*figures), estimate_firestore(*figures)):
            assert re.search(r" *│ *".join(map(re.escape, format_row(estimate))), text)


@pytest.mark.parametrize(
    ("rate", "linger_s", "measured"),
    [(10, 0.005, 9.2), (100, 0.005, 19.8), (2, 1.0, 1.18), (10, 1.0, 1.04), (100, 1.0, 0.99)],
)
def test_the_model_counts_commits_as_the_buffer_makes_them(
    rate: float, linger_s: float, measured: float
) -> None:
    """Measured with senders at random moments (Poisson) and commits of 50 ms."""
    assert count_commits(rate, 1, linger_s) == pytest.approx(measured, rel=0.03)


def test_the_model_grows_with_the_rate() -> None:
    for estimate in (estimate_sqlite(10, 1500, PRICES), estimate_firestore(10, 1500, PRICES)):
        assert estimate.instances == 3
    rates = (10, 100, 1_000, 10_000, 100_000)
    dollars = [estimate_sqlite(rate, 1500, PRICES).dollars for rate in rates]
    assert dollars == sorted(dollars)


@pytest.mark.parametrize("role", ["master", "slave"])
def test_the_model_has_the_limits_of_the_services(role: str) -> None:
    text = (ROOT / "containers" / role / "service.yaml").read_text()
    assert f"containerConcurrency: {CONCURRENCY} " in text
    assert f"memory: {MEMORY_GIB:.0f}Gi\n" in text


def test_a_machine_counts_for_what_it_sustains() -> None:
    half = {**PRICES, "virtual machine": {**PRICES["virtual machine"], "vCPU": 0.5}}
    whole = {**PRICES, "virtual machine": {**PRICES["virtual machine"], "vCPU": 1.0}}
    few, many = (estimate_sqlite(3_000, 1500, prices) for prices in (whole, half))
    assert many.instances == 2 * few.instances
