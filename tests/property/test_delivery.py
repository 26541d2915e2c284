"""Laws of a delivery in simulated time, with a receiver that fails and a process that is killed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.webhooks.delivery_policy import Policy
from portable_core.webhooks.delivery_request import Outcome
from tests.support.delivery.world import FAULTS, Request, Webhook, World

OK = Outcome(200)

POLICIES = st.builds(
    Policy,
    concurrency=st.integers(1, 5),
    ordered=st.booleans(),
    rate=st.sampled_from([None, 3.0, 50.0]),
    window=st.integers(1, 20),
    ahead=st.integers(1, 60),
    rejections=st.integers(1, 3),
    retry_for_s=st.sampled_from([None, 30.0]),
    when_gone=st.just("dead-letter"),
)


def make_world(
    policy: Policy, count: int, sources: int, seed: int, fault_rate: float, kill_rate: float
) -> World:
    """A receiver that fails at random, and at most six times for one webhook."""
    rng = random.Random(seed)

    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        return rng.choice(FAULTS) if before < 6 and rng.random() < fault_rate else OK

    webhooks = [
        Webhook(number, f"s{rng.randrange(sources)}", rng.random() < 0.1) for number in range(count)
    ]
    return World(webhooks, policy, rng, answer, kill_rate)


@given(
    policy=POLICIES,
    count=st.integers(1, 60),
    sources=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    fault_rate=st.sampled_from([0.0, 0.2, 0.9]),
    kill_rate=st.sampled_from([0.0, 0.02, 0.1]),
)
def test_nothing_is_skipped_and_repeats_were_in_flight(
    policy: Policy, count: int, sources: int, seed: int, fault_rate: float, kill_rate: float
) -> None:
    world = make_world(policy, count, sources, seed, fault_rate, kill_rate)
    world.run()
    accepted = Counter(r.webhook.id for r in world.requests if r.outcome.ok)
    to_deliver = {webhook.id for webhook in world.webhooks if not webhook.skip}
    assert {*accepted, *world.durable.dead} == to_deliver
    repeated = {id for id, count in accepted.items() if count > 1}
    assert repeated <= world.in_flight_at_kills
    assert len(set(world.durable.dead)) == len(world.durable.dead)
    assert {*accepted} & {*world.durable.dead} <= world.in_flight_at_kills
    assert world.durable.done == set()
    assert world.durable.position.startswith(world.webhooks[-1].position)
    if policy.ordered:
        check_order(world)
    check_rate(world.requests, policy.rate)


def check_order(world: World) -> None:
    """Check that each source's webhooks end in the order of the feed."""
    first_ends: defaultdict[str, list[int]] = defaultdict(list)
    ended: set[str] = set()
    for request in world.requests:
        webhook = request.webhook
        before = (w for w in world.webhooks[: webhook.number] if not w.skip)
        earlier = [w.id for w in before if w.source == webhook.source]
        # A webhook is sent once all before it are accepted or dead: they are sent no more, except
        # after a kill.
        assert set(earlier) <= ended | set(world.durable.dead)
        if request.outcome.ok:
            ended.add(webhook.id)
            if webhook.number not in first_ends[webhook.source]:
                first_ends[webhook.source].append(webhook.number)
    for numbers in first_ends.values():
        assert numbers == sorted(numbers)


def check_rate(requests: list[Request], rate: float | None) -> None:
    """Check every interval within one run: its requests, less a burst of 0.1 s and one."""
    by_run: defaultdict[int, list[float]] = defaultdict(list)
    for request in requests:
        by_run[request.run].append(request.sent)
    for times in by_run.values():
        for first in range(0, len(times), 3):
            for last in range(first, len(times)):
                if rate is not None:
                    span = times[last] - times[first]
                    assert last - first <= rate * (span + 0.1) + 1


@pytest.mark.parametrize("ordered", [True, False])
def test_one_webhook_that_fails_holds_only_its_source(ordered: bool) -> None:
    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        return Outcome(500) if webhook.number == 0 and now < 3000 else OK

    webhooks = [Webhook(number, f"s{number % 2}") for number in range(20)]
    policy = Policy(concurrency=2, ordered=ordered, retry_for_s=None)
    world = World(webhooks, policy, random.Random(1), answer)
    world.run()
    done_at = {r.webhook.number: r.sent for r in world.requests if r.outcome.ok}
    assert all(done_at[number] < 60 for number in range(1, 20, 2))
    assert all((done_at[number] > 3000) == ordered for number in range(2, 20, 2))
    assert 3000 < done_at[0] < 3000 + policy.cap_s + 2


def test_one_webhook_that_fails_does_not_fill_the_window() -> None:
    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        return Outcome(500) if webhook.number == 0 and now < 3000 else OK

    webhooks = [Webhook(number, f"s{number > 0}") for number in range(100)]
    policy = Policy(concurrency=2, window=5, ahead=80, retry_for_s=None)
    world = World(webhooks, policy, random.Random(1), answer, kill_rate=0.01)
    world.run()
    done_at = {r.webhook.number: r.sent for r in reversed(world.requests) if r.outcome.ok}
    early = [number for number, sent in done_at.items() if sent < 3000]
    assert sorted(early) == [*range(1, 80)], "all that may be read after the first one"
    accepted = Counter(r.webhook.id for r in world.requests if r.outcome.ok)
    assert {id for id, count in accepted.items() if count > 1} <= world.in_flight_at_kills


@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_outage_is_probed_slowly_and_ends_at_once(concurrency: int, ordered: bool) -> None:
    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        return Outcome(0, "refused") if 10 < now < 1000 else OK

    webhooks = [Webhook(number, f"s{number % 20}") for number in range(500)]
    policy = Policy(concurrency=concurrency, ordered=ordered, rate=20.0)
    world = World(webhooks, policy, random.Random(1), answer, latency_s=0.01)
    world.run()
    failed = [r for r in world.requests if not r.outcome.ok]
    # Exponential backoff: some 10 requests up to the cap, then one in 30 s on average.
    assert len(failed) < concurrency + 10 + 990 / 30 * 2
    after = [r.sent for r in world.requests if r.sent >= 1000]
    held = {r.webhook.id for r in failed}
    accepted = [r.sent for r in world.requests if r.webhook.id in held and r.sent >= 1000]
    assert max(accepted) < after[0] + len(held) / 20.0 + 1
    assert after[0] < 1000 + policy.cap_s + 2
    assert after[-1] - after[0] < len(after) / 20.0 * 1.3 + 3
    assert len(world.accepted()) == 500


def test_retry_after_delays_the_webhook_and_429_delays_all() -> None:
    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        if webhook.number == 0 and before == 0:
            return Outcome(429, "", "40")
        if webhook.number == 4 and before == 0:
            return Outcome(404, "", "100")
        return OK

    webhooks = [Webhook(number, f"s{number}") for number in range(8)]
    world = World(webhooks, Policy(concurrency=1), random.Random(3), answer)
    world.run()
    sent = [(r.webhook.number, r.sent) for r in world.requests]
    assert sent[0][0] == 0
    assert all(time >= sent[0][1] + 40 for _, time in sent[1:])
    first, second = (time for number, time in sent if number == 4)
    assert second >= first + 100
    assert max(time for number, time in sent if number != 4) < first + 100


def test_410_stops_and_other_ends_are_dead_letters() -> None:
    def answer(webhook: Webhook, before: int, now: float) -> Outcome:
        return {1: Outcome(400), 2: Outcome(500), 4: Outcome(410)}.get(webhook.number, OK)

    webhooks = [Webhook(number, "s") for number in range(6)]
    world = World(webhooks, Policy(rejections=3, retry_for_s=50), random.Random(1), answer)
    world.run()
    assert world.problem == "the receiver answered 410 Gone"
    assert world.durable.dead == ["id-1", "id-2"]
    assert world.durable.position.startswith("p000003")
    counts = Counter(r.webhook.number for r in world.requests)
    assert (counts[1], counts[4], counts[5]) == (3, 1, 0)
    assert counts[2] > 4


def test_no_dead_letter_is_lost_for_lack_of_room() -> None:
    webhooks = [Webhook(number, f"s{number}") for number in range(10)]
    world = World(webhooks, Policy(rejections=1), random.Random(1), lambda *_: Outcome(400))
    world.dead_room = 3
    world.run()
    assert len(world.durable.dead) == 3
    assert world.problem == "there is no room for further dead letters"
    assert world.durable.position.startswith("p000002")
