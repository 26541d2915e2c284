"""The ratios of the benchmarks, and the figures that the model of cost reads."""

from __future__ import annotations

from pathlib import Path

from loadtests import bench, bench_peers
from loadtests.capacity import DEFAULT_RATE, read_figures

OURS = "slave, container"


def write(folder: Path) -> str:
    """Two rounds: the machine was twice as fast in the second, for everybody."""
    hashes = {
        name: {"hash": [2.0, 4.0], "loads": [4.0, 8.0], "json": [0.5, 1.0]}
        for name in bench._HASH_SETS
    }
    rows = [
        {
            "server": peer.name,
            "senders": 64,
            "rates": [3000.0, 6000.0] if peer.name == OURS else [1000.0, 2000.0],
            "p50": 1.0,
            "p99": 2.0,
            "refused": 0,
        }
        for peer in bench_peers.PEERS
    ]
    sync = {
        "a sync": [200_000.0, 400_000.0],
        "ids as JSON, sets": [100_000.0, 100_000.0],
        "bytes a record on the wire": [25.0, 25.0],
    }
    return bench._write(folder, 2, hashes, rows, sync)


def test_a_ratio_is_taken_within_a_round(tmp_path: Path) -> None:
    text = write(tmp_path)
    assert "| hash / orjson.loads alone, 150 B | 0.50 (0.50 to 0.50) |" in text
    assert f"| {OURS} / FastAPI + aiosqlite, 64 senders | 3.00 (3.00 to 3.00) |" in text
    assert "| sync / ids as JSON, sets | 3.00 (2.00 to 4.00) |" in text
    assert "| a sync | 300,000 (200,000 to 400,000) |" in text


def test_the_model_of_cost_reads_the_report(tmp_path: Path) -> None:
    write(tmp_path)
    per_core, pairs, source = read_figures(tmp_path / "bench.json")
    assert (per_core, pairs) == (4500, 300_000)
    assert "measured" in source
    per_core, _, source = read_figures(tmp_path / "nothing.json")
    assert per_core == DEFAULT_RATE
    assert "assumed" in source
