"""The base install is what a node on SQLite needs; each extra adds what its setting needs."""

from __future__ import annotations

import ast
import os
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.wheel import ROOT, build_wheel, install_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: How the names of the modules begin that need an extra, by the extra.
MODULES = {
    "firestore": ["portable_core.adapters.firestore"],
    "oidc": [
        "portable_core.adapters.authentication.oidc",
        "portable_core.adapters.authentication.key_set",
        "portable_core.adapters.authentication.source_keys",
    ],
    "functions": ["portable_core.functions.main", "portable_core.functions.worker"],
}

#: Prints the modules of the package with these prefixes that cannot be imported.
IMPORT_ALL = """
import importlib, os, pkgutil, portable_core, sys
os.environ.update(FUNCTION_TARGET="slave", STORE="memory:", SYNC_AUTH="none")
for module in pkgutil.walk_packages(portable_core.__path__, "portable_core.", lambda name: None):
    if module.name.startswith(tuple(sys.argv[1:])) and module.name != "portable_core.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError:
            print(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment without extras."""
    return install_wheel(wheel, tmp_path_factory.mktemp("base") / "env")


def list_missing(bin: Path, *prefixes: str) -> list[str]:
    """Return the modules with these prefixes that an environment cannot import."""
    command = [str(bin / "python"), "-P", "-c", IMPORT_ALL, *prefixes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_base_imports_every_module_but_those_of_the_extras(base: Path) -> None:
    missing = list_missing(base, "portable_core.")
    prefixes = tuple(prefix for each in MODULES.values() for prefix in each)
    for prefix in prefixes:
        assert [name for name in missing if name.startswith(prefix)], prefix
    assert [name for name in missing if not name.startswith(prefixes)] == []


@pytest.mark.deep
@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_what_its_modules_import(extra: str, wheel: Path, tmp_path: Path) -> None:
    bin = install_wheel(wheel, tmp_path / "env", extras=[extra])
    assert list_missing(bin, *MODULES[extra]) == []


OIDC = {"SYNC_AUTH": "oidc", "OIDC_AUDIENCE": "https://a.example", "OIDC_ACCOUNTS": "a@b.example"}
KEYED = {"SOURCES": "s=pubsub-oidc:a@b.example https://a.example"}


@pytest.mark.parametrize(
    ("env", "setting", "package", "extra"),
    [
        (
            {"STORE": "firestore:project/database", "SYNC_AUTH": "none"},
            *("STORE", "google-cloud-firestore", "firestore"),
        ),
        (
            {"STORE": "memory:", "ALLOW_EPHEMERAL": "1", **OIDC},
            "SYNC_AUTH",
            "google-auth[requests]",
            "oidc",
        ),
        (
            {"STORE": "memory:", "ALLOW_EPHEMERAL": "1", "SYNC_AUTH": "none", **KEYED},
            "SOURCES",
            "google-auth[requests]",
            "oidc",
        ),
    ],
)
def test_a_node_that_lacks_an_extra_names_it_in_one_line(
    base: Path, env: dict[str, str], setting: str, package: str, extra: str
) -> None:
    done = subprocess.run(
        [base / "webhook-sync", "serve", "--role", "slave", "--host", "127.0.0.1"],
        env={"PATH": os.environ["PATH"], "PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {setting}: needs the package {package}, which is not installed. "
        f"Install webhook-sync[{extra}].\n"
    )


def list_imports(folder: Path) -> Iterator[str]:
    """Yield the modules that the code in a folder imports, by their full names."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module


@pytest.mark.parametrize("group", ["base", *MODULES])
def test_every_dependency_is_imported(group: str) -> None:
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] if group == "base" else extras[group]
    imported = set(list_imports(ROOT / "portable_core"))
    for line in lines:
        name = Requirement(line).name
        files = {str(file) for file in distribution(name).files or ()}
        used = [
            module
            for module in imported
            if {f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py")} & files
        ]
        assert used, f"{name}: the package imports no module of it"
