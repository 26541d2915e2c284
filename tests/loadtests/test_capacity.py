"""The model of cost agrees with the documents, the services and the buffer."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest

from loadtests.capacity import (
    CONCURRENCY,
    MEMORY_GIB,
    RATES,
    count_commits,
    count_instances,
    count_master,
    count_slave,
    estimate_firestore,
    estimate_sqlite,
)

ROOT = Path(__file__).parents[2]
PRICES = json.loads((ROOT / "loadtests" / "prices.json").read_bytes())


def test_the_model_agrees_with_the_documented_costs() -> None:
    text = (ROOT / "docs" / "firestore.md").read_text()
    for rate, linger_ms in product((10, 100, 1000), (5, 1000)):
        shared = (rate, count_instances(rate, 1e6 / 122, linger_ms / 1000), linger_ms / 1000)
        master, slave = count_master(*shared), count_slave(*shared)
        row = (
            f"| {rate:,} | {linger_ms} | {shared[1]} | {count_commits(*shared):.1f} "
            f"| {master.writes / 1e6:,.0f} million | {master.reads / 1e6:,.0f} million "
            f"| {master.price(PRICES):,.0f} | {slave.price(PRICES):,.0f} |\n"
        )
        assert row in text
    assert PRICES["date"] == "2025-06"
    assert "Prices are those of June 2025" in text


def test_the_printed_model_is_that_of_the_guide() -> None:
    text = (ROOT / "docs" / "load.md").read_text()
    [(core, pair)] = re.findall(r"One core: (\d+) µs a webhook, ([\d.]+) µs a pair", text)
    for rate in RATES:
        figures = (rate, 1e6 / float(core), PRICES, 1e6 / float(pair))
        for estimate in (estimate_sqlite(*figures), estimate_firestore(*figures)):
            row = f"{rate:>10,} │ {estimate.instances:>9,} │ {estimate.dollars:>15,.0f} │"
            assert f"│ {estimate.layout:<9} │ {row}" in text


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
    assert f"containerConcurrency: {CONCURRENCY}\n" in text
    assert f"memory: {MEMORY_GIB:.0f}Gi\n" in text


def test_a_machine_counts_for_what_it_sustains() -> None:
    half = {**PRICES, "virtual machine": {**PRICES["virtual machine"], "vCPU": 0.5}}
    whole = {**PRICES, "virtual machine": {**PRICES["virtual machine"], "vCPU": 1.0}}
    few, many = (estimate_sqlite(3_000, 1500, prices) for prices in (whole, half))
    assert many.instances == 2 * few.instances
