"""The project's wheel, built from a copy of the sources and installed into empty environments."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.missing import give_up

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the files that a build needs, and no others."""
    sources = folder / "sources"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "portable_core", sources / "portable_core", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    if Requirement("setuptools>=77").specifier.contains(distribution("setuptools").version):
        _run(
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(folder), str(sources)),
        )
    else:
        give_up("setuptools 77 or newer, which builds the wheel, is not installed")
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path, *, extras: Iterable[str] = ()) -> Path:
    """Install a wheel into an empty environment. Returns the folder of its commands.

    The packages that it requires are links to those of this environment; others are absent.
    """
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    _run(
        *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
        *("--no-index", "--no-deps", "--no-compile", str(wheel)),
    )
    packages = Path(
        sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    )
    (information,) = packages.glob("webhook_sync-*.dist-info")
    found: dict[str, Distribution] = {}
    find_required(PathDistribution(information), frozenset(extras), found)
    for required in found.values():
        for file in _list_roots(required):
            link = packages / file.name
            if not link.exists():
                link.symlink_to(file)
    return folder / "bin"


def find_required(
    package: Distribution, extras: frozenset[str], found: dict[str, Distribution]
) -> None:
    """Add the distributions that ``package[extras]`` requires, and those that they require."""
    for text in package.requires or ():
        requirement = Requirement(text)
        wanted = any(
            requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            for extra in (extras or {""})
        )
        key = requirement.name.lower().replace("_", "-")
        if not wanted or (key in found and not requirement.extras):
            continue
        try:
            found[key] = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # for another platform
        find_required(found[key], frozenset(requirement.extras), found)


def _list_roots(package: Distribution) -> Iterator[Path]:
    """The files and folders of a distribution beside which others lie."""
    names = {file.parts[0] for file in package.files or () if file.parts[0] != ".."}
    for name in sorted(names - {"__pycache__"}):
        yield Path(str(package.locate_file(name)))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
