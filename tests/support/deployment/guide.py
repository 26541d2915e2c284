"""Reads the deployment guide, and runs its commands with stand-ins for what they call.

A stand-in writes down its arguments and its standard input (of a YAML file among the arguments what
is in it), and prints what the next command needs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "containers" / "README.md"

#: Programs that reach for something that is not there in a test, and what they print.
STAND_INS = {
    "gcloud": "123456789012",
    "openssl": "0123456789abcdef",
    "curl": "",
    "docker": "",
    "kubectl": "",
    "sudo": "",
    "buildah": "",
    "podman": "",
}

_STAND_IN = """#!/bin/bash
call=$(mktemp "{log}/$(date +%s%N).XXXX")
printf '%s\\0' {name} "$@" >"$call.arguments"
cat >"$call.input"
for argument; do
  if [[ $argument == *.yaml && $argument != -* ]]; then cat "$argument" >>"$call.input"; fi
done
echo '{answer}'
"""

#: gettext's ``envsubst``: variables of the environment filled in, unknown ones as nothing.
_ENVSUBST = """#!/usr/bin/env python3
import os, re, sys
fill = lambda match: os.environ.get(match[1] or match[2], "")
sys.stdout.write(re.sub(r"[$](?:{(\\w+)}|(\\w+))", fill, sys.stdin.read()))
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands: the heading that it stands under, its line, its text."""

    heading: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A program that was called: its arguments, as the shell made them, and what it read."""

    program: str
    arguments: Sequence[str]
    input: str


def read_blocks(text: str) -> Iterator[Block]:
    """The blocks marked as ``sh``, in their order."""
    heading = ""
    start, lines = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if start:
            if line == "```":
                yield Block(heading, start, "\n".join(lines) + "\n")
                start, lines = 0, []
            else:
                lines.append(line)
        elif line == "```sh":
            start = number + 1
        elif line.startswith("```"):
            raise AssertionError(f"line {number}: a block that is not marked as sh")
        elif match := re.match(r"#+ (.+)", line):
            heading = match[1]


def run_blocks(blocks: Sequence[Block], folder: Path) -> list[Call]:
    """Run the blocks one after the other in one shell, as a reader would, and return the calls.

    They run beside a copy of ``containers`` in which the base image is not made. Any command that
    fails, and any variable that no block has set, is an error.
    """
    log = folder / "calls"
    log.mkdir()
    programs = folder / "bin"
    programs.mkdir()
    for name, answer in STAND_INS.items():
        program = programs / name
        program.write_text(_STAND_IN.format(name=name, log=log, answer=answer))
        program.chmod(0o755)
    envsubst = programs / "envsubst"
    envsubst.write_text(_ENVSUBST)
    envsubst.chmod(0o755)
    shutil.copytree(ROOT / "containers", folder / "containers")
    base = folder / "containers" / "local-base.sh"
    base.write_text("#!/bin/sh\necho export BUILD_FLAGS=--pull=never\n")
    script = "\n".join(f"# {block.heading}\n{block.text}" for block in blocks)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
    }
    done = run_bash("set -euo pipefail\n" + script, folder, environment)
    assert done.returncode == 0, done.stderr
    return [_read_call(path) for path in sorted(log.glob("*.arguments"))]


def _read_call(path: Path) -> Call:
    program, *arguments = path.read_text().removesuffix("\0").split("\0")
    return Call(program, arguments, path.with_suffix(".input").read_text())


def run_bash(
    script: str, folder: Path, environment: Mapping[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a script that stands in a file, as its commands read standard input."""
    path = folder / "script"
    path.write_text(script)
    return subprocess.run(
        ["bash", *options, str(path)],
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
