"""A disk that fails to sync: ``fsync`` and ``fdatasync`` of chosen files end with ``EIO``.

After such an error the kernel may drop the pages that it could not write, and reports no error for
them again. ``LD_PRELOAD`` puts a small library in front of libc's functions. It reads a control
file at each call: a part of the paths that fail, and how many milliseconds later.

``python -m tests.support.stores.sync_faults SCENARIO FOLDER CONTROL`` runs a scenario in such a
process and prints its result as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portable_core.errors import StoreError
from tests.support.stores.samples import HOUR, NOON, make_records
from tests.support.stores.sqlite_folders import list_data_files, opened, read_timestamps

_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int descriptor) {
    char wanted[256] = "", link[64], path[4096];
    int delay_ms = 0;
    const char *name = getenv("SYNC_FAULTS");
    FILE *control = name ? fopen(name, "r") : NULL;
    if (control == NULL) return 0;
    int read = fscanf(control, "%255s %d", wanted, &delay_ms);
    fclose(control);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (read < 1 || length < 0) return 0;
    path[length] = 0;
    if (strstr(path, wanted) == NULL) return 0;
    usleep(delay_ms * 1000);
    errno = EIO;
    return 1;
}

int fsync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails(descriptor) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails(descriptor) ? -1 : real(descriptor);
}
"""


def compile_library(folder: Path) -> Path:
    library = folder / "sync_faults.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=_LIBRARY, text=True, check=True)
    return library


def run_scenario(scenario: str, folder: Path, library: Path) -> Any:
    """Run it in a process whose syncs can fail; return its result."""
    control = folder.parent / "control"
    module = "tests.support.stores.sync_faults"
    done = subprocess.run(
        [sys.executable, "-m", module, scenario, str(folder), str(control)],
        env={**os.environ, "LD_PRELOAD": str(library), "SYNC_FAULTS": str(control)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- in the process --------------------------------------------------------------------------------

FIRST, FAILED, LATER = (make_records(5, NOON + 1000 * n) for n in range(3))


@contextmanager
def failing(control: Path, path: str, delay_ms: int = 0) -> Iterator[None]:
    control.write_text(f"{path} {delay_ms}")
    try:
        yield
    finally:
        control.unlink()


def fail(call: Callable[..., object], *arguments: object) -> str:
    """Return the error of a call that has to fail."""
    try:
        call(*arguments)
    except StoreError as error:
        return str(error)
    raise AssertionError("the sync did not fail")


def _describe(folder: Path, **values: object) -> dict[str, object]:
    """Return the bytes of each data file and log, and some values."""
    sizes = {
        path.name: path.stat().st_size for path in folder.glob("0*") if "-shm" not in path.name
    }
    return {"sizes": sizes, **values}


def commit(folder: Path, control: Path) -> dict[str, object]:
    """A commit fails; a scan of the file is under way, so that its log is not merged meanwhile."""
    with opened(folder) as store:
        store.append(FIRST)
        scan = store.pairs(0, NOON * 2)
        next(scan)
        (path,) = list_data_files(folder)
        with failing(control, f"{path.name}-wal"):
            error = fail(store.append, FAILED)
        before = _describe(folder)["sizes"]
        visible = read_timestamps(store)
        store.append(LATER)
        return _describe(
            folder, error=error, before=before, visible=visible, after=read_timestamps(store)
        )


def late(folder: Path, control: Path) -> dict[str, object]:
    """The disk hangs until the append's deadline has passed, and reports its error then."""
    with opened(folder) as store:
        store.append(FIRST)
        (path,) = list_data_files(folder)
        with failing(control, f"{path.name}-wal", 1000):
            error = fail(store.append, FAILED, 0.3)
            until = time.monotonic() + 30
            while "earlier write" in fail_or_nothing(store.check):
                assert time.monotonic() < until
                time.sleep(0.05)
        visible = read_timestamps(store)
        before = _describe(folder)["sizes"]
        store.append(LATER)
        return _describe(
            folder, error=error, before=before, visible=visible, after=read_timestamps(store)
        )


def fail_or_nothing(call: Callable[[], object]) -> str:
    try:
        call()
    except StoreError as error:
        return str(error)
    return ""


def state(folder: Path, control: Path) -> dict[str, object]:
    """A commit of the state fails; records are still stored in the file that is there."""
    with opened(folder) as store:
        store.append(FIRST)
        store.raise_mark("asked", 1)
        with failing(control, "state.sqlite3-wal"):
            error = fail(store.raise_mark, "asked", 2)
        again = fail(store.raise_mark, "asked", 3)
        store.append(LATER)
        new_hour = fail(store.append, make_records(1, NOON + HOUR))
        time.sleep(1.1)
        return _describe(
            folder,
            error=error,
            again=again,
            new_hour=new_hour,
            check=fail(store.check),
            mark=store.mark("asked"),
        )


if __name__ == "__main__":
    scenario, *paths = sys.argv[1:]
    print(json.dumps({"commit": commit, "late": late, "state": state}[scenario](*map(Path, paths))))
