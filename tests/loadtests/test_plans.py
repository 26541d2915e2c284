"""Plans, schedules, webhooks and the model of cost: repeatable, and as they are described."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
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
from loadtests.faults import KINDS, make_plan
from loadtests.ledger import digest_value
from loadtests.scenarios import SCENARIOS, schedule
from loadtests.signing import make_signers
from loadtests.simulate_hour import SPAN_MS, Hour
from loadtests.webhooks import LARGE_BYTES, Webhooks
from portable_core.ports import Milliseconds
from portable_core.sources.signatures import parse_sources
from portable_core.sync.slave_sync import SlaveSync

ROOT = Path(__file__).parents[2]
PRICES = json.loads((ROOT / "loadtests" / "prices.json").read_bytes())


def test_a_seed_is_a_plan() -> None:
    assert make_plan(1, 42, 130) == make_plan(1, 42, 130)
    assert make_plan(1, 42, 130) != make_plan(2, 42, 130)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_every_kind_and_one_fault_a_node_at_a_time(seed: int) -> None:
    plan = make_plan(seed, 42, 130)
    assert Counter(fault.kind for fault in plan) == dict.fromkeys(KINDS, 3)
    assert len(plan) >= 30
    for fault in plan:
        assert fault.target in KINDS[fault.kind].targets
        low, high = KINDS[fault.kind].amount
        assert low <= fault.amount <= high
    free: dict[str, float] = {}
    for fault in plan:
        assert fault.at >= free.get(fault.target, 0)
        free[fault.target] = fault.at + fault.seconds


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_schedule_takes_as_long_as_the_rate_says(name: str) -> None:
    times = list(schedule(SCENARIOS[name], 12_000, 100))
    assert times == sorted(times)
    assert len(times) == 12_000
    assert times[-1] == pytest.approx(120, rel=0.15)


def test_a_webhook_has_one_value_in_all_its_spellings() -> None:
    webhooks = Webhooks(1, large=0.3)
    bodies = {webhooks.spell(7, spelling) for spelling in range(4)}
    assert len({digest_value(body) for body in bodies}) == 1
    assert len({digest_value(webhooks.spell(number, 0)) for number in range(200)}) == 200
    assert Webhooks(1, large=0.3).spell(7, 2) == webhooks.spell(7, 2)
    large = [n for n in range(200) if len(webhooks.spell(n, 0)) >= LARGE_BYTES[0]]
    assert 20 <= len(large) <= 100


def test_signatures_are_those_that_a_node_admits() -> None:
    text = (
        "github=github:s3cret,stripe=stripe:whsec_x,std=standard:whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=,"
        "other=hmac-sha256@X-Signature:s3cret"
    )
    sources = parse_sources(text)
    signers = make_signers(text)
    assert sorted(signers) == ["github", "other", "std", "stripe"]
    for source, sign in signers.items():
        headers = {name.lower(): value for name, value in sign("id-1", 1_000, b"{}").items()}

        def read(name: str, headers: dict[str, str] = headers) -> list[str]:
            return [headers[name.lower()]] if name.lower() in headers else []

        sources.verify(source, read, b"{}", 1_000_000)


def test_the_model_agrees_with_the_documented_costs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "firestore.md").read_text()
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
    text = (Path(__file__).parents[2] / "docs" / "load.md").read_text()
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


def test_a_short_simulated_hour_loses_nothing_and_can_tell() -> None:
    hour = Hour(1, 10, 1800, "crc32c")
    hour.run()
    verdict = hour.verdict()
    assert verdict["webhooks"] == 18_000
    assert (verdict["lost"], verdict["needless"]) == (0, 0)
    assert isinstance(verdict["recovered"], int)
    assert verdict["recovered"] > 500
    hour._copies[17] = 0
    hour._copies[18] = 2
    verdict = hour.verdict()
    assert (verdict["lost"], verdict["needless"]) == (1, 1)


def test_a_simulated_hour_shows_a_sync_that_does_not_end_a_span_before_the_horizon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync_windows = SlaveSync._sync_windows

    def sync_up_to_the_horizon(
        self: SlaveSync, now: Callable[[], Milliseconds], end: Milliseconds
    ) -> None:
        sync_windows(self, now, end + SPAN_MS)

    monkeypatch.setattr(SlaveSync, "_sync_windows", sync_up_to_the_horizon)
    hour = Hour(1, 10, 900, "crc32c")
    hour.run()
    needless = hour.verdict()["needless"]
    assert isinstance(needless, int)
    assert needless > 0
