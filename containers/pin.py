"""Print the pins of all packages, in the versions that are installed here.

    .venv/bin/python containers/pin.py > requirements.txt                (make pins does all)
    .venv/bin/python containers/pin.py --build > requirements-build.txt
    .venv/bin/python containers/pin.py --dev > requirements-dev.txt

The first file has what a node needs, the second what builds an image; both have the hashes of the
files of each version, as pip gets them from the package index, so that no other file is installed.
Containers install the first file without resolving dependencies again, and check that the set is
complete. The third file pins the packages that only development needs.

Google's Python buildpack prefers ``requirements.txt`` to ``pyproject.toml``, so ``--source .`` gets
the same versions and checks the same hashes. The project itself is not in the file, because pip
refuses a folder beside hashes: ``functions/main.py`` finds the package in the upload. So nothing is
stale when the buildpack keeps what it installed, which it does while the file is the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "webhook-sync"
FOR_NODES, FOR_DEVELOPMENT = f"{PROJECT}[all]", f"{PROJECT}[dev]"

#: The versions of Python that the pins are for: a package that any of them needs is pinned.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

#: The machines that the hashes are for. All run Linux with glibc in this version or a newer one.
MACHINES = ("x86_64", "aarch64")
GLIBC = 28

#: Packages that publish no wheel; pip builds one from their source.
SOURCE_ONLY = ("sqlitedict",)

#: What builds the wheels in an image.
BUILD_TOOLS = ("pip", "setuptools")

HEAD = "# Made by `make pins` from what is installed; do not edit.\n"
PLATFORMS = (
    f"# Python {PYTHONS[0]} to {PYTHONS[-1]}; Linux with glibc on {' and '.join(MACHINES)}.\n"
)
FOR_IMAGES = "# Used by the Dockerfiles and by Google's Python buildpack.\n"


def find_dependencies(project: str) -> dict[str, str]:
    """Return names and installed versions of everything that ``project`` needs, itself left out.

    ``project`` may name extras, as in ``webhook-sync[all]``.
    """
    found: dict[str, str] = {}
    todo = [Requirement(project)]
    while todo:
        needed = todo.pop()
        installed = distribution(needed.name)
        name = canonicalize_name(needed.name)
        known = f"{name}[{','.join(sorted(needed.extras))}]"
        if known in found:
            continue
        found[known] = installed.version
        for line in installed.requires or ():
            requirement = Requirement(line)
            if is_needed(requirement, needed.extras):
                todo.append(requirement)
    versions = {name.partition("[")[0]: version for name, version in found.items()}
    del versions[canonicalize_name(PROJECT)]
    return versions


def is_needed(requirement: Requirement, extras: set[str]) -> bool:
    """Return whether one of :data:`PYTHONS` on Linux needs it, given the extras of its parent."""
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate(
            {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
        )
        for python in PYTHONS
        for extra in (extras or {""})
    )


# -- hashes ----------------------------------------------------------------------------------------


def find_hashes(pins: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the hashes of the files that pip would install, by package, for every platform."""
    hashes: defaultdict[str, set[str]] = defaultdict(set)
    for python, machine in product(PYTHONS, MACHINES):
        for name, hash_ in find_files(pins, python, machine):
            hashes[name].add(hash_)
    assert hashes.keys() == pins.keys(), hashes.keys() ^ pins.keys()  # noqa: S101  # pip's promise
    return hashes


def find_files(pins: Mapping[str, str], python: str, machine: str) -> Iterator[tuple[str, str]]:
    """Return package and hash of each file that pip would install on this platform."""
    tags = ["manylinux1", "manylinux2010", "manylinux2014"]
    tags += [f"manylinux_2_{minor}" for minor in range(5, GLIBC + 1)]
    with tempfile.TemporaryDirectory() as folder:
        requirements, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        requirements.write_text("".join(f"{name}=={pins[name]}\n" for name in pins))
        subprocess.run(  # noqa: S603  # pip, on lines made here
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--dry-run", "--ignore-installed", "--no-deps", "--target", folder),
                *("--requirement", requirements, "--report", report),
                *("--implementation", "cp", "--python-version", python),
                *(f"--platform={tag}_{machine}" for tag in tags),
                *("--only-binary=:all:", f"--no-binary={','.join(SOURCE_ONLY)}"),
            ],
            check=True,
            stdout=sys.stderr,
        )
        for item in json.loads(report.read_text())["install"]:
            url, name = item["download_info"]["url"], canonicalize_name(item["metadata"]["name"])
            if not url.startswith("https://"):
                sys.exit(f"{name}: pip found a local file, which may not be the published one")
            yield name, item["download_info"]["archive_info"]["hashes"]["sha256"]


def format_pins(pins: Mapping[str, str]) -> str:
    """Return the lines of a requirements file with hashes."""
    hashes = find_hashes(pins)
    return "".join(
        " \\\n    ".join(
            [f"{name}=={pins[name]}", *(f"--hash=sha256:{hash_}" for hash_ in sorted(hashes[name]))]
        )
        + "\n"
        for name in sorted(pins)
    )


def main() -> None:
    if "--build" in sys.argv[1:]:
        tools = {name: distribution(name).version for name in BUILD_TOOLS}
        print(HEAD + PLATFORMS + format_pins(tools), end="")
        return
    pins = find_dependencies(FOR_NODES)
    if "--dev" in sys.argv[1:]:
        more = find_dependencies(FOR_DEVELOPMENT)
        lines = [f"{name}=={more[name]}\n" for name in sorted(more.keys() - pins.keys())]
        print(HEAD + "".join(lines), end="")
        return
    print(HEAD + FOR_IMAGES + PLATFORMS + format_pins(pins), end="")


if __name__ == "__main__":
    main()
