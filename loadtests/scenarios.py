"""The scenarios: how fast webhooks come, how large they are, what senders do besides. One table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


def _steady(part: float) -> float:
    return 1.0


def _ramp(part: float) -> float:
    return 0.2 + 1.6 * part


def _burst(part: float) -> float:
    """Half the rate, and in a tenth of the time eleven times as much."""
    return 5.5 if part * 5 % 1 >= 0.9 else 0.5


@dataclass(frozen=True, slots=True)
class Scenario:
    """``pace``: how many times the rate, for a part of the run from 0 to 1.

    ``large``: the share of large payloads. ``duplicates``: the share that is sent again although it
    was acknowledged. ``unheard``: the share of answers that do not reach the sender, who takes them
    for refusals. ``retries_s``: after how many seconds a sender tries again that heard no 200.
    ``signed``: webhooks go to the sources of ``--secrets`` in turn, with valid signatures.
    """

    pace: Callable[[float], float] = _steady
    large: float = 0.0
    duplicates: float = 0.0
    unheard: float = 0.0
    retries_s: tuple[float, ...] = ()
    signed: bool = False


SCENARIOS: dict[str, Scenario] = {
    "steady": Scenario(),
    "ramp": Scenario(pace=_ramp),
    "burst": Scenario(pace=_burst),
    "large": Scenario(large=0.2),
    "retries": Scenario(duplicates=0.05, unheard=0.1, retries_s=(1.0, 5.0, 20.0)),
    "mixed": Scenario(signed=True, duplicates=0.02, unheard=0.02, retries_s=(1.0, 5.0)),
}


def schedule(scenario: Scenario, count: int, rate: float) -> Iterator[float]:
    """When each webhook is due, in seconds from the start; ``count / rate`` seconds in all."""
    length, at = count / rate, 0.0
    for _ in range(count):
        yield at
        at += 1 / (rate * scenario.pace(min(1.0, at / length)))
