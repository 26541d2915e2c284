"""How fast the payload hash is, as ratios within one run, and how much memory it takes.

::

    python loadtests/bench_hash.py [--seconds 4] [--no-memory]

On each set of payloads the contenders race: in turn, in short rounds, again and again; the fastest
round of each counts. So whatever else the machine does hits all of them alike. Their order changes,
since each finds caches and allocator as the one before has left them.

The memory table runs each case in a process of its own and reads the peak of its resident memory.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import google_crc32c
import orjson

import portable_core
from portable_core.adapters.server.malloc import set_mmap_threshold
from portable_core.errors import MalformedPayload
from portable_core.payload_hash.algorithms import check_algorithm
from portable_core.payload_hash.canonical import canonicalize, hash_payload
from portable_core.payload_hash.identity import (
    DEFAULT_RULE,
    IdentityRule,
    Parts,
    compute_key,
    identify,
    make_rule,
)

SAMPLES = Path(portable_core.__file__).parent / "samples"
MIB = 1 << 20
ROUND = 0.01  # seconds: short, so that some rounds are undisturbed even on a busy machine

Work = Callable[[bytes], object]


def hash_with_json(payload: bytes) -> int:
    """What one would write first: exact neither in numbers nor in surrogates, but it sorts keys."""
    text = json.dumps(json.loads(payload), sort_keys=True)
    checksum: int = google_crc32c.value(text.encode())
    return checksum


def hash_with_blake2b(payload: bytes) -> int:
    return hash_payload(payload, "blake2b", b"key")


CONTENDERS: dict[str, Work] = {
    "loads": orjson.loads,
    "hash": hash_payload,
    "blake2b": hash_with_blake2b,
    "json": hash_with_json,
}


def race(
    contenders: dict[str, Work], payloads: Sequence[bytes], seconds: float
) -> dict[str, float]:
    """The seconds that each contender needs for all payloads, at its fastest."""

    def time_round(work: Work, repeats: int) -> float:
        for payload in payloads:
            work(payload)  # caches, and the allocator's free lists, as this contender leaves them
        started = time.perf_counter()
        for _ in range(repeats):
            for payload in payloads:
                work(payload)
        return (time.perf_counter() - started) / repeats

    once = sum(time_round(work, 1) for work in contenders.values()) / len(contenders)
    repeats = max(1, round(ROUND / once))
    fastest = dict.fromkeys(contenders, float("inf"))
    order, drawn = list(contenders), random.Random(1)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        drawn.shuffle(order)
        for name in order:
            fastest[name] = min(fastest[name], time_round(contenders[name], repeats))
    return fastest


def compact(payload: bytes) -> bytes:
    return orjson.dumps(orjson.loads(payload))


def make_sets() -> dict[str, list[bytes]]:
    """The payload sets by name."""
    real = [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]
    event = {
        "id": "evt_1MqqbKLt4dXK03v5qaIbiNCC",
        "type": "charge.succeeded",
        "created": 1680064028,
        "amount": 1099,
        "currency": "usd",
        "paid": True,
        "failure": None,
    }
    drawn = random.Random(1)
    places = [[drawn.uniform(-180, 180), drawn.uniform(-90, 90)] for _ in range(2_500)]
    return {
        "real payloads, as in their files": real,
        "real payloads, compact as on the wire": [compact(payload) for payload in real],
        "150 B": [orjson.dumps(event)],
        "1 kB": [orjson.dumps({"events": [event] * 6})],
        "10 kB": [make_large(real, 10_000)],
        "100 kB": [make_large(real, 100_000)],
        "1 MB": [make_large(real, 1_000_000)],
        "100 kB of coordinates, 17 digits": [orjson.dumps({"coordinates": places})],
        "10 kB, one integer beyond 64 bits": [
            b'{"big":18446744073709551616,"rest":' + make_large(real, 10_000) + b"}"
        ],
    }


def make_large(real: Sequence[bytes], size: int) -> bytes:
    """An object of about ``size`` bytes: real payloads in an array, and a string for the rest."""
    parts: list[bytes] = []
    left = size - 30
    for index in range(size):
        part = compact(real[index % len(real)])
        if len(part) > left:
            break
        parts.append(part)
        left -= len(part) + 1
    return b'{"items":[' + b",".join(parts) + b'],"fill":"' + b"x" * left + b'"}'


def make_identity_contenders() -> dict[str, Work]:
    """The hash of an identity: by default, and under rules of a source."""
    compute = check_algorithm("crc32c").compute
    headers = {"x-github-event": "push", "user-agent": "GitHub-Hookshot/1"}

    def under(rule: IdentityRule) -> Work:
        return lambda payload: compute(identify(rule, Parts("github", headers, "", payload)), b"")

    return {
        "hash": hash_payload,
        "default": under(DEFAULT_RULE),
        "without": under(make_rule(without=["/sender/id", "/repository/updated_at"])),
        "id": under(make_rule(id=["body:/sender/id", "header:x-github-event"])),
        "key": lambda payload: compute_key(payload),
    }


def print_identities(seconds: float) -> None:
    """The table of identities: what source, event header and a rule add to the hash."""
    contenders = make_identity_contenders()
    print("\nIdentities, in the default identity's hash of the same webhooks")
    print(f"{'payloads':40}" + "".join(f"{name:>10}" for name in contenders))
    for name, payloads in make_sets().items():
        times = race(contenders, payloads, seconds)
        cells = [f"{time / times['default']:.2f}" for time in times.values()]
        print(f"{name:40}" + "".join(f"{cell:>10}" for cell in cells))


def print_speed(seconds: float) -> None:
    """The table of ratios, and how the real payloads compare with the targets."""
    columns = ("µs each", "MB/s", "hash", "json/hash", "crc32c", "blake2b")
    print(f"{'':40}{'':20}in orjson.loads of the same bytes")
    print(f"{'payloads':40}" + "".join(f"{column:>10}" for column in columns))
    verdicts = []
    for name, payloads in make_sets().items():
        real = name.startswith("real")
        times = race(CONTENDERS, payloads, 3 * seconds if real else seconds)
        canonical = [canonicalize(payload) for payload in payloads]
        checksum = race({"crc32c": google_crc32c.value}, canonical, seconds / 10)["crc32c"]
        loads, own = times["loads"], times["hash"]
        cells = (
            f"{own / len(payloads) * 1e6:.1f}",
            f"{sum(map(len, payloads)) / own / 1e6:.0f}",
            f"{own / loads:.2f}",
            f"{times['json'] / own:.2f}",
            f"{checksum / loads:.2f}",
            f"{times['blake2b'] / loads:.2f}",
        )
        print(f"{name:40}" + "".join(f"{cell:>10}" for cell in cells))
        if real:
            verdicts.append(
                f"{name}: {own / loads:.2f} × orjson.loads (at most 2.5 wanted, 2.0 hoped for); "
                f"json.loads + json.dumps(sort_keys=True) + crc32c takes {times['json'] / own:.2f} "
                "× as long (at least 4 wanted)"
            )
    print("", *verdicts, sep="\n")


# Memory. Each case is (payload, how many at once); it has 25 MiB unless its name has a size.


def make_members(count: int) -> bytes:
    return b"{" + b",".join(b'"k%014d":"v%07d"' % (-n, n) for n in range(1, count)) + b"}"


def make_chains(size: int) -> bytes:
    """Objects 200 levels deep, each key another one and of four bytes a character in Python."""
    key = '{"😀aaaaaaaaaa%03d":'
    chain = "".join(key % level for level in range(200)) + "1" + "}" * 200
    chains = [chain.encode()] * (size // len(chain.encode()))
    return b'{"a":[' + b",".join(chains) + b"]}"


def make_case(name: str) -> bytes:
    real = [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]
    return {
        "honest": lambda: make_large(real, 25 * MIB),
        "emoji": lambda: ('{"text":"' + "x" * (25 * MIB - 20) + '😀"}').encode(),
        "members": lambda: make_members(MIB),
        "exact": lambda: b'{"big":18446744073709551616,' + make_members(MIB - 1)[1:],
        "arrays": lambda: b'{"a":[' + b"[]," * (25 * MIB // 3 - 4) + b"[]]}",
        "emoji keys": lambda: make_chains(23 * MIB),
        "nested": lambda: b'{"b":' * 480 + b'"' + b"x" * (24 * MIB) + b'"' + b',"a":1}' * 480,
        "broken": lambda: make_large(real, 25 * MIB)[:-1],
    }[name]()


CASES = {
    ("honest", 1, False): "25 MiB of real payloads",
    ("honest", 10, False): "ten of them at once",
    ("honest", 10, True): "ten of them at once, allocator as it comes",
    ("emoji", 1, False): "25 MiB, one string with an emoji",
    ("members", 1, False): "an object of a million members",
    ("exact", 1, False): "the same on the exact path",
    ("nested", 1, False): "24 MiB in 480 objects out of order",
    ("emoji keys", 1, False): "23 MiB of chains of emoji keys",
    ("broken", 1, False): "25 MiB of real payloads, last byte missing",
    ("arrays", 1, False): "25 MiB of [[],[],…]: refused",
}


def print_memory() -> None:
    print(
        f"\n{'':53}{'MiB of':>9}{'MiB at':>9}{'of it for':>10}\n"
        f"{'large payloads, one process each':44}{'seconds':>9}{'bodies':>9}{'the peak':>9}"
        f"{'the hash':>10}"
    )
    for (name, count, untouched), title in CASES.items():
        command = [sys.executable, __file__, "--case", name, "--at-once", str(count)]
        command += ["--untouched"] * untouched
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, bodies, peak, added = map(float, result.stdout.split())
        print(f"{title:44}{seconds:9.2f}{bodies:9.0f}{peak:9.0f}{added:10.0f}")


def measure_case(name: str, count: int, untouched: bool) -> None:
    """Hash ``count`` copies on as many threads: seconds, MiB of bodies, peak, peak above before."""
    if not untouched:
        set_mmap_threshold()
    # The body comes from a file, so that making it does not count.
    path = Path(sys.argv[0] + f".{name}.tmp")
    try:
        subprocess.run(
            [sys.executable, __file__, "--write-case", name, "--to", str(path)], check=True
        )
        bodies = [path.read_bytes() for _ in range(count)]
    finally:
        path.unlink(missing_ok=True)
    before = read_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    threads = [threading.Thread(target=hash_or_refuse, args=(body,)) for body in bodies]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    peak = read_memory("VmHWM")
    print(seconds, sum(map(len, bodies)) / MIB, peak, peak - before)


def hash_or_refuse(body: bytes) -> None:
    try:
        hash_payload(body)
    except MalformedPayload:
        return


def read_memory(name: str) -> float:
    """A line of the process's status, in MiB."""
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="how long each race lasts; the real payloads' three times as long",
    )
    parser.add_argument("--no-memory", action="store_true", help="speed only")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--at-once", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--untouched", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write-case", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write_case:
        arguments.to.write_bytes(make_case(arguments.write_case))
    elif arguments.case:
        measure_case(arguments.case, arguments.at_once, arguments.untouched)
    else:
        print_speed(arguments.seconds)
        print_identities(arguments.seconds)
        if not arguments.no_memory and Path("/proc/self/clear_refs").exists():
            print_memory()


if __name__ == "__main__":
    main()
