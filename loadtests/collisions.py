"""How often a collision of hashes hides a missing webhook: the formula against a simulation.

::

    python loadtests/collisions.py [--rate 10000] [--bits 32] [--missing 1000000] [--seed 1]

A webhook that the master lacks is hidden if the master has another one with the same hash at most
one span away. With r webhooks a second, a span of s seconds and a hash of b bits, 2·r·s of the
master's lie that near, and the chance is 1 - (1 - 2^-b)^(2rs).

The simulation makes payloads, stamps them and hashes them with the product's own functions, and
then asks for each missing one whether any pair of the master's would hide it. Of ``blake2b`` it
takes fewer bits, so that there is something to count: that a hash of b bits behaves as b bits
should is what it shows. Without arguments it runs a few such cases, for about a minute.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import defaultdict
from itertools import product

from portable_core import hash_payload
from portable_core.payload_hash.algorithms import ALGORITHMS, DEFAULT_ALGORITHM

SPAN_S = 120
RATES = (100, 1_000, 10_000)
BITS = {algorithm.name: algorithm.bits for algorithm in ALGORITHMS.values()}


def chance_hidden(rate: float, bits: int, span_s: float = SPAN_S) -> float:
    """The chance that a missing webhook is hidden, by the formula."""
    return -math.expm1(2 * rate * span_s * math.log1p(-(2.0**-bits)))


def make_payload(drawn: random.Random) -> bytes:
    """A small payload like those of a shop: a few things differ, most does not."""
    return (
        b'{"id":"evt_%016x","type":"order.paid","created":%d,"data":{"order":%d,"amount":%d,'
        b'"currency":"EUR","customer":"cus_%08x","items":[{"sku":"A-%04d","quantity":%d}]}}'
        % (
            drawn.getrandbits(64),
            1_700_000_000 + drawn.randrange(10_000_000),
            drawn.randrange(10**9),
            drawn.randrange(100, 100_000),
            drawn.getrandbits(32),
            drawn.randrange(10_000),
            drawn.randrange(1, 9),
        )
    )


def simulate(algorithm: str, rate: int, bits: int, missing: int, seed: int) -> int:
    """How many of ``missing`` webhooks are hidden on a master that took ``rate`` a second.

    The master's lie in four spans; the missing ones come in the middle two, where each sees all
    that can hide it.
    """
    drawn = random.Random(seed)
    shift = BITS[algorithm] - bits
    span = SPAN_S * 1000
    held: dict[int, list[int]] = defaultdict(list)
    for _ in range(rate * 4 * SPAN_S):
        hash_ = hash_payload(make_payload(drawn), algorithm, b"key") >> shift
        held[hash_].append(drawn.randrange(4 * span))
    hidden = 0
    for _ in range(missing):
        hash_ = hash_payload(make_payload(drawn), algorithm, b"key") >> shift
        timestamp = drawn.randrange(span, 3 * span)
        hidden += any(abs(other - timestamp) <= span for other in held.get(hash_, ()))
    return hidden


def print_formula() -> None:
    print(f"The chance that a missing webhook is hidden (span {SPAN_S} s):\n")
    print(f"{'webhooks a second':>18}" + "".join(f"{name:>24}" for name in BITS))
    for rate in RATES:
        cells = (f"{chance_hidden(rate, bits):.1e}" for bits in BITS.values())
        print(f"{rate:18,}" + "".join(f"{cell:>24}" for cell in cells))


def print_case(algorithm: str, rate: int, bits: int, missing: int, seed: int) -> bool:
    """One line; whether what was counted lies within four standard deviations of the formula."""
    started = time.perf_counter()
    counted = simulate(algorithm, rate, bits, missing, seed)
    expected = missing * chance_hidden(rate, bits)
    deviations = (counted - expected) / math.sqrt(expected)
    print(
        f"{algorithm:10}{bits:5}{rate:10,}{missing:12,}{expected:12.1f}{counted:9}"
        f"{deviations:+9.1f}{time.perf_counter() - started:9.0f}",
        flush=True,
    )
    return abs(deviations) <= 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--algorithm", choices=list(BITS), default=DEFAULT_ALGORITHM)
    parser.add_argument("--rate", type=int, help="webhooks a second at the master")
    parser.add_argument("--bits", type=int, help="how many of the hash's bits to look at")
    parser.add_argument("--missing", type=int, default=200_000, help="webhooks that it lacks")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print_formula()
    print(
        f"\nSimulated:\n\n{'':10}{'bits':>5}{'rate':>10}{'missing':>12}{'expected':>12}"
        f"{'counted':>9}{'sigma':>9}{'seconds':>9}"
    )
    cases = [(given.algorithm, given.rate, given.bits or BITS[given.algorithm], given.missing)]
    if given.rate is None:
        cases = [
            (algorithm, rate, bits, given.missing)
            for algorithm, (rate, bits) in product(BITS, [(100, 20), (100, 24), (1_000, 28)])
        ]
        cases.append((DEFAULT_ALGORITHM, 2_000, BITS[DEFAULT_ALGORITHM], 5 * given.missing))
    close = [print_case(*case, given.seed) for case in cases]
    print("\nall within four standard deviations of the formula" if all(close) else "\nNOT close")
    raise SystemExit(not all(close))


if __name__ == "__main__":
    main()
