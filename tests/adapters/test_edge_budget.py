"""Which unfinished requests are read, held up and given up."""

from __future__ import annotations

import random

from portable_core.adapters.edge.budget import BodyBudget
from portable_core.adapters.edge.limits import EdgeLimits

LIMITS = EdgeLimits(paused_bytes=100, held_bytes=300)


class _Sender:
    """Sends until it is held up."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size = 0
        self.held_up = self.given_up = False

    def send(self, size: int, *, large: bool = True) -> None:
        self.size += size
        self._budget.note(self, self.size, large=large)

    def end(self) -> None:
        self._budget.forget(self)
        self.held_up = False

    def hold_up(self) -> None:
        self.held_up = True

    def let_go(self) -> None:
        self.held_up = False

    def give_up(self) -> None:
        self.given_up = True
        self.end()


def test_large_requests_wait_for_the_oldest_and_small_ones_never() -> None:
    budget = BodyBudget(LIMITS)
    first, second, third, small = (_Sender(budget) for _ in range(4))
    for sender in (first, second, third):
        sender.send(60)
    assert [s.held_up for s in (first, second, third)] == [False, True, True]
    small.send(20, large=False)
    first.send(60)
    assert not small.held_up
    assert not first.held_up
    first.end()  # 140 are held: only the oldest goes on
    assert [s.held_up for s in (second, third)] == [False, True]
    second.end()
    assert not third.held_up


def test_beyond_the_most_the_oldest_is_given_up() -> None:
    budget = BodyBudget(LIMITS)
    senders = [_Sender(budget) for _ in range(8)]
    for sender in senders:
        sender.send(60)
    assert [s.given_up for s in senders] == [True] * 3 + [False] * 5
    assert budget.total == 300


def test_none_waits_for_ever() -> None:
    """Whatever order they send and end in: the oldest is always read, and all come to an end."""
    chance = random.Random(1)
    for _ in range(200):
        budget = BodyBudget(LIMITS)
        alive: list[_Sender] = []
        for _ in range(100):
            if chance.random() < 0.3 or not alive:
                alive.append(_Sender(budget))
                alive[-1].send(chance.randrange(80), large=chance.random() < 0.7)
                alive = [each for each in alive if not each.given_up]
            sender = chance.choice(alive)
            if chance.random() < 0.3:
                sender.end()
                alive.remove(sender)
            elif not sender.held_up:
                sender.send(chance.randrange(80))
            alive = [each for each in alive if not each.given_up]
            assert budget.total == sum(each.size for each in alive) <= 300
            assert not alive or not alive[0].held_up
        while alive:
            ready = next(each for each in alive if not each.held_up)
            ready.end()
            alive.remove(ready)
        assert budget.total == 0
