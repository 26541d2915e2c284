"""``webhook-sync hash``: print the hash of payloads, or their canonical bytes."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import click

from portable_core.cli.options import examples
from portable_core.errors import MalformedPayload
from portable_core.payload_hash.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from portable_core.payload_hash.canonical import canonicalize, hash_payload
from portable_core.settings_text import find_control_character


@click.command(
    "hash",
    epilog=examples(
        "webhook-sync hash payload.json",
        "webhook-sync hash --json *.json",
        "webhook-sync hash --canonical < payload.json",
        "HASH_KEY=secret webhook-sync hash --algorithm blake2b payload.json",
    ),
)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--canonical", is_flag=True, help="Print the canonical bytes instead of the hash.")
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    default=DEFAULT_ALGORITHM,
    show_default=True,
    help="Hash algorithm. A keyed one reads its key from HASH_KEY, as a node does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per payload.")
def hash_command(files: tuple[str, ...], canonical: bool, algorithm: str, as_json: bool) -> None:
    """Print the hash of each payload, one per line.

    Without FILE, or for "-", the payload is read from standard input. With several files, the
    file's name follows each hash.

    Exit code 1 if a payload is malformed or a file cannot be read; the others are still printed.
    """
    if canonical and as_json:
        raise click.UsageError(
            "--canonical and --json exclude each other: canonical bytes are JSON"
        )
    key = _read_key(algorithm)
    failed = False
    for file in files or ("-",):
        try:
            payload = _read(file)
            if canonical:
                line = canonicalize(payload)
            elif as_json:
                document = {"file": file, "hash": hash_payload(payload, algorithm, key)}
                line = json.dumps(document).encode()
            else:
                name = b"  " + os.fsencode(file) if len(files) > 1 else b""
                line = b"%d%b" % (hash_payload(payload, algorithm, key), name)
        except (MalformedPayload, OSError) as error:
            failed = True
            reason = error.strerror if isinstance(error, OSError) else error
            shown = "standard input" if file == "-" else ascii(file)[1:-1]
            click.echo(f"webhook-sync hash: {shown}: {reason}", err=True)
        else:
            click.echo(line)
    if failed:
        sys.exit(1)


def _read(file: str) -> bytes:
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin is None:
        raise OSError(errno.EBADF, "closed")
    return sys.stdin.buffer.read()


def _read_key(algorithm: str) -> bytes:
    """Return the key. A node's rules apply: UTF-8, and required for a keyed algorithm."""
    key = os.fsencode(os.environ.get("HASH_KEY", "")).strip()
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError("HASH_KEY: not valid UTF-8") from error
    fault = find_control_character(key.decode())
    if fault:
        raise click.UsageError(f"HASH_KEY: contains {fault}")
    if ALGORITHMS[algorithm].keyed and not key:
        raise click.UsageError(f"HASH_KEY: missing; {algorithm} needs a key")
    return key
