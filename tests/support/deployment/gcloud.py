"""Which commands and flags ``gcloud`` has: a list kept beside this file, and checks against it.

The list comes from the Google Cloud CLI itself, from the table by which it completes command lines.
``python -m tests.support.deployment.gcloud`` makes it anew, where gcloud is installed, of the
commands that the guide uses.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("gcloud_flags.json")


def load() -> dict[str, Any]:
    """``commands``: per command its flags, each with ``bool``, ``value`` or its choices;
    ``global``: the flags that every command has; ``source``."""
    table: dict[str, Any] = json.loads(LIST.read_text())
    return table


def find_faults(arguments: Sequence[str], table: dict[str, Any]) -> Iterator[str]:
    """What gcloud would not understand of these arguments."""
    command = find_command(arguments, table["commands"])
    if not command:
        yield f"gcloud {' '.join(arguments[:4])}: no such command"
        return
    flags = {**table["global"], **table["commands"][command]}
    rest = list(arguments[len(command.split()) :])
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--"):
            continue
        kind = flags.get(name)
        if kind is None and flags.get("--" + name.removeprefix("--no-")) == "bool":
            kind = "bool"
        if kind is None:
            yield f"gcloud {command}: no flag {name}"
        elif kind == "bool":
            if equals:
                yield f"gcloud {command}: {name} takes no value"
        else:
            if not equals and rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            if not value:
                yield f"gcloud {command}: {name} needs a value"
            if isinstance(kind, list) and value not in kind:
                yield f"gcloud {command}: {name}={value} is not one of {', '.join(kind)}"


def find_command(arguments: Sequence[str], commands: dict[str, Any]) -> str:
    """The longest beginning of ``arguments`` that is a command; empty if none is."""
    words = [word for word in arguments[:6] if re.fullmatch(r"[a-z0-9-]+", word)]
    beginnings = [" ".join(words[:count]) for count in range(len(words), 0, -1)]
    return next((text for text in beginnings if text in commands), "")


def _read_installed() -> dict[str, Any]:
    """The whole table of the installed CLI, flattened."""
    told = subprocess.run(
        ["gcloud", "info", "--format=json(basic.version,installation.sdk_root)"],
        capture_output=True,
        text=True,
        check=True,
    )
    info = json.loads(told.stdout)
    path = Path(info["installation"]["sdk_root"]) / "data/cli/gcloud_completions.py"
    tree = runpy.run_path(str(path))["STATIC_COMPLETION_CLI_TREE"]
    commands: dict[str, Any] = {}

    def flatten(node: dict[str, Any], names: tuple[str, ...]) -> None:
        commands[" ".join(names)] = node["flags"]
        for name, child in node.get("commands", {}).items():
            flatten(child, (*names, name))

    for name, child in tree["commands"].items():
        flatten(child, (name,))
    return {
        "source": f"Google Cloud CLI {info['basic']['version']}, data/cli/gcloud_completions.py",
        "global": tree["flags"],
        "commands": commands,
    }


def main() -> None:
    from tests.support.deployment.guide import GUIDE, read_blocks, run_blocks

    table = _read_installed()
    with tempfile.TemporaryDirectory() as folder:
        calls = run_blocks(list(read_blocks(GUIDE.read_text())), Path(folder))
    used = {
        find_command(call.arguments, table["commands"])
        for call in calls
        if call.program == "gcloud"
    }
    table["commands"] = {name: table["commands"][name] for name in sorted(used)}
    LIST.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
