"""Print ``requirements.txt``: the versions of everything that a node needs, as installed here.

    .venv/bin/python containers/pin.py > requirements.txt              (make pins does both)
    .venv/bin/python containers/pin.py --dev > requirements-dev.txt

Containers install the first file without resolving dependencies again, and check that the set is
complete. The second file pins the packages that only development needs.
Google's Python buildpack prefers ``requirements.txt`` to ``pyproject.toml``, so ``--source .`` gets
the same versions. The buildpack caches its installation for a day if this file has not changed:
that is why the project itself comes last, and as an editable one, which is never a stale copy.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "webhook-sync"
FOR_NODES, FOR_DEVELOPMENT = f"{PROJECT}[all]", f"{PROJECT}[dev]"

#: The versions of Python that the pins are for: a package that any of them needs is pinned.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

HEAD = f"""\
# Made by `make pins` from what is installed; do not edit.
# Used by the Dockerfiles and by Google's Python buildpack, Python {PYTHONS[0]} to {PYTHONS[-1]}.
"""


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


def main() -> None:
    pins = find_dependencies(FOR_NODES)
    if "--dev" in sys.argv[1:]:
        more = find_dependencies(FOR_DEVELOPMENT)
        lines = [f"{name}=={more[name]}" for name in sorted(more.keys() - pins.keys())]
        print("# Made by `make pins` from what is installed; do not edit.", *lines, sep="\n")
        return
    lines = [f"{name}=={version}" for name, version in sorted(pins.items())]
    print(HEAD + "".join(f"{line}\n" for line in lines) + "-e .")


if __name__ == "__main__":
    main()
