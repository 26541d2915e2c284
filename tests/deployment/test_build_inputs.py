"""What images and functions are built from: Dockerfiles, pinned versions, and what is uploaded."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pathspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from containers.pin import MACHINES, PYTHONS
from tests.support.deployment.guide import ROOT

ROLES = ["slave", "master"]
DOCKERFILES = [ROOT / "containers" / role / "Dockerfile" for role in ROLES]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("hadolint"), path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=ROLES)
def test_hadolint_finds_nothing(path: Path) -> None:
    done = lint(path)
    assert done.returncode == 0, done.stdout


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python\nRUN cd /tmp && pip install flask\n")
    assert lint(path).returncode != 0


def test_the_roles_differ_in_name_only() -> None:
    slave, master = (path.read_text() for path in DOCKERFILES)
    assert slave.replace("slave", "master") == master
    assert slave != master


@pytest.mark.parametrize("path", DOCKERFILES, ids=ROLES)
def test_an_image_runs_without_root_and_without_a_shell(path: Path) -> None:
    last = path.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["webhook-sync", "serve", ', last, re.MULTILINE)
    assert "RUN " not in last
    assert "CMD " not in last


# -- versions --------------------------------------------------------------------------------------


#: A requirement with the hashes of its files, as pip reads it.
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][^\s;]*)"
    r"(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


def read_pins(name: str) -> dict[str, str]:
    """Names and versions of a file whose every line belongs to a requirement with hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    pins = list(PIN.finditer(text))
    assert "".join(pin[0] for pin in pins) == text, f"{name}: make pins"
    return {pin["name"]: pin["version"] for pin in pins}


def test_every_dependency_is_pinned_to_a_version_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = read_pins("requirements.txt")
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["firestore"], *extras["oidc"]]:
        requirement = Requirement(line)
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned: make pins"
        assert requirement.specifier.contains(pin, prereleases=True), f"{line}: make pins"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_every_file_that_is_installed_has_a_known_hash(name: str) -> None:
    """Then pip checks them all, and refuses a file without one."""
    pins = read_pins(name)
    assert list(pins) == sorted(pins)
    assert len(pins) >= 2
    assert "://" not in (ROOT / name).read_text()


def test_the_hashes_are_those_of_every_platform() -> None:
    """A package with compiled code has a wheel for each Python and machine, or for their ABI."""
    pins = {pin["name"]: pin for pin in PIN.finditer((ROOT / "requirements.txt").read_text())}
    for name in ("orjson", "msgspec", "uvloop", "grpcio"):
        hashes = pins[name]["hashes"].split("--hash=")[1:]
        assert len(set(hashes)) == len(hashes) == len(PYTHONS) * len(MACHINES), name


@pytest.mark.parametrize("path", DOCKERFILES, ids=ROLES)
def test_an_image_installs_nothing_without_a_hash(path: Path) -> None:
    text = re.sub(r" *\\\n *", " ", path.read_text())
    calls = re.findall(r"-m pip (.*?)(?: && |\n)", text)
    assert len(calls) == 6
    for call in calls:
        offline = "--no-index" in call or call.split()[-1] == "check"
        hashed = "--require-hashes" in call and re.search(r" -r requirements[a-z-]*\.txt$", call)
        assert offline or hashed, call
        assert "wheel" not in call.split() or "--no-build-isolation" in call
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    tools = read_pins("requirements-build.txt")
    for line in build["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(tools[requirement.name])


def test_the_file_has_the_form_that_googles_buildpack_looks_for() -> None:
    """It installs its own functions-framework unless a line begins with that name, and keeps what
    it installed while the file is the same: so the project itself must not be in it."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert any(re.match(r"functions-framework\b([^-]|$)", line) for line in lines)
    assert "webhook-sync" not in read_pins("requirements.txt")


# -- what is uploaded ------------------------------------------------------------------------------


def read_upload(root: Path) -> set[str]:
    """What ``.gcloudignore`` lets through; its rules are those of git."""
    lines = (ROOT / ".gcloudignore").read_text().splitlines()
    spec = pathspec.GitIgnoreSpec.from_lines(lines)
    return set(spec.match_tree_files(root, negate=True))


def test_an_upload_holds_what_builds_need_and_nothing_private(tmp_path: Path) -> None:
    wanted = [
        "portable_core/wiring.py",
        "portable_core/samples/push.with-no-username-committer.payload.json",
        "portable_core/py.typed",
        "functions/main.py",
        "containers/slave/Dockerfile",
        "containers/compile.py",
        "pyproject.toml",
        "requirements.txt",
        "requirements-build.txt",
        "README.md",
        "LICENSE",
    ]
    unwanted = [
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "data/slave/x.sqlite",
        "portable_core/__pycache__/slave.cpython-311.pyc",
        "functions/__pycache__/main.cpython-311.pyc",
        "app.yaml",
        ".env",
        "Dockerfile",
        "requirements-dev.txt",
    ]
    for name in wanted + unwanted:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert read_upload(tmp_path) == set(wanted)


def test_there_is_no_dockerfile_at_the_root() -> None:
    """``--source .`` would build that instead of the function."""
    assert not (ROOT / "Dockerfile").exists()
