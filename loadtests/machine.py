"""What a report must say about where its figures come from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import time
from pathlib import Path

_PACKAGES = (
    *(
        "webhook-sync",
        "aiohttp",
        "flask",
        "gunicorn",
        "httptools",
        "sqlitedict",
        "orjson",
        "msgpack",
    ),
    *("msgspec", "google-crc32c", "google-cloud-firestore", "locust"),
    # what the peers of the benchmarks run on
    *("fastapi", "uvicorn", "uvloop", "httptools", "aiosqlite", "functions-framework"),
)


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, versions, the load of others, and the date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "processor": _read_processor(),
        "cores": os.cpu_count(),
        "memory GiB": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite3": sqlite3.sqlite_version,
        "load average": [round(value, 1) for value in os.getloadavg()],
        "packages": {name: _find_version(name) for name in _PACKAGES},
    }


def _read_processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _find_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
