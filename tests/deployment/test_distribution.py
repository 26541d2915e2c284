"""The files of a release: an sdist with everything, and a wheel that runs without a checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from tests.support.missing import give_up
from tests.support.wheel import ROOT, install_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"webhook_sync-{PROJECT['version']}"

#: Files of the repository that a release does not need.
LEFT_OUT = re.compile(r"\..*")

BUILD = """
import setuptools.build_meta, sys
getattr(setuptools.build_meta, "build_" + sys.argv[1])(sys.argv[2])
"""


def build(kind: str, sources: Path, target: Path) -> Path:
    """Build an sdist or a wheel as a frontend does, with the setuptools of this environment."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(target)],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


def list_tracked() -> list[str]:
    """Return the files of the repository."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        give_up("this folder is not a repository")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = tmp_path_factory.mktemp("sources")
    for name in list_tracked():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    return build("sdist", sources, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist builds."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", folder / NAME, tmp_path_factory.mktemp("wheel"))


def test_the_sdist_has_every_file_of_the_repository(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {name for name in list_tracked() if not LEFT_OUT.match(name)} - names == set()


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
        scripts = archive.read(f"{NAME}.dist-info/entry_points.txt").decode()
    package = {name for name in list_tracked() if name.startswith("portable_core/")}
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == {name for name in package if not name.endswith(".md")}
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    assert (metadata["Version"], metadata["License-Expression"]) == (PROJECT["version"], "MIT")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# ")  # type: ignore[union-attr]  # one text
    assert "webhook-sync = portable_core.cli.main:main" in scripts


def test_the_changelog_begins_with_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    (first, *_) = re.findall(r"^## \[(.+)\] - (?:Unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert first == PROJECT["version"]


@dataclass(slots=True, eq=False)
class InstalledNode(NodeProcess):
    """A node of the environment ``bin``, without this checkout."""

    bin: Path = Path()

    def _command(self) -> list[str]:
        return [str(self.bin / "python"), *NodeProcess._command(self)[1:]]


@pytest.mark.deep
def test_an_installed_wheel_serves_all_that_it_ships(wheel: Path, tmp_path: Path) -> None:
    """Templates, static files, presets and the description of the API, from an empty folder."""
    env = {
        "STORE": f"sqlite:{tmp_path / 'store'}",
        "SYNC_TOKENS": "a-token",
        "CONSOLE_TOKEN": "a-token-of-the-console",
        "SOURCES": "hub=github:secret",
    }
    node = InstalledNode("master", "master", "container", env, tmp_path / "log")
    node.bin = install_wheel(wheel, tmp_path / "env")
    node.start()
    try:
        node.wait_until_healthy()
        page = get(node, "/login")
        assert "<form" in page
        static = re.findall(r'(?:href|src)="([^"]+\.(?:css|js)[^"]*)"', page)
        assert static
        for address in static:
            assert get(node, address)
        assert '"openapi"' in get(node, "/openapi.json")
        with pytest.raises(urllib.error.HTTPError, match=r"40[01]"):  # the preset checks signatures
            get(node, "/webhook/hub", b"{}")
    finally:
        node.kill()


def get(node: NodeProcess, path: str, body: bytes | None = None) -> str:
    headers = {"Authorization": "Bearer a-token", "Accept": "*/*"}
    request = urllib.request.Request(node.url + path, body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())
