"""Fuzz the parsers with atheris: nothing but errors of our own root may come out of them.

    pip install -e '.[fuzz]'
    python loadtests/fuzz_wire.py                          200,000 inputs over all targets
    python loadtests/fuzz_wire.py --runs 1000000 --target json-records

The vectors of the tests are what it starts from. The first byte of an input chooses the target, the
second one the size of the chunks; the readers of streams are run twice, once with the whole, and
have to tell the same. An input that breaks a rule is written to the working directory, and the
process ends with an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["portable_core"]):
    from portable_core.errors import WebhookSyncError
    from portable_core.wire import (
        ENCODINGS,
        Limits,
        Reader,
        choose_encoding,
        negotiate,
        read_stream,
    )

VECTORS = Path(__file__).parent.parent / "tests" / "vectors" / "wire"

LIMITS = Limits(element_bytes=4096, meta_bytes=1024)

JSON = ENCODINGS["application/json"]
MSGPACK = ENCODINGS["application/vnd.msgpack"]

#: Parts of the grammars that random changes would rarely hit upon.
DICTIONARY = (
    *(b'"hash":', b'"timestamp":', b'"data":', b'"raw":', b'"meta":', b'"headers":', b'"source":'),
    *(b'[{"hash":1,"timestamp":2,"data":{}}]', b"\\ud83d", b"9007199254740992", b"null", b"1e400"),
    *(
        b"\x94\x01\x02\x80\xc4\x02{}",
        b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ),
    *(b"application/json", b"application/vnd.msgpack", b"*/*", b";q=0.5", b'"\\"'),
)


def read(reader: Reader[Any], data: bytes, size: int) -> tuple[object, ...]:
    """All that the reader tells of ``data`` in chunks of ``size`` bytes."""
    items: list[Any] = []
    fault: tuple[object, ...] = ()
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    try:
        for item in read_stream(reader, chunks):
            items.append(item)
    except WebhookSyncError as error:
        fault = (type(error), getattr(error, "element", None))
    return items, reader.whole, reader.count, fault


def check_stream(make_reader: Callable[[], Reader[Any]]) -> Callable[[bytes, int], None]:
    def check(data: bytes, size: int) -> None:
        whole, cut = read(make_reader(), data, max(1, len(data))), read(make_reader(), data, size)
        if whole != cut:
            raise AssertionError(f"whole: {whole}; in chunks of {size}: {cut}")

    return check


def check_header(choose: Callable[[str], object]) -> Callable[[bytes, int], None]:
    def check(data: bytes, size: int) -> None:
        with suppress(WebhookSyncError):
            choose(data.decode("latin-1"))

    return check


TARGETS: dict[str, Callable[[bytes, int], None]] = {
    "json-pairs": check_stream(JSON.read_pairs),
    "json-records": check_stream(lambda: JSON.read_records(LIMITS)),
    "msgpack-pairs": check_stream(MSGPACK.read_pairs),
    "msgpack-records": check_stream(lambda: MSGPACK.read_records(LIMITS)),
    "accept": check_header(negotiate),
    "content-type": check_header(choose_encoding),
}


def write_corpus(folder: Path, names: list[str]) -> None:
    """The vectors as inputs of the targets they belong to."""
    for target, name in enumerate(names):
        encoding, _, noun = name.partition("-")
        if noun not in ("pairs", "records"):
            continue
        for number, vector in enumerate(json.loads((VECTORS / f"{noun}.json").read_bytes())):
            if encoding in vector:
                text = vector[encoding]
                data = text.encode() if encoding == "json" else bytes.fromhex(text)
                (folder / f"{name}-{number}").write_bytes(bytes([target, number]) + data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200_000, help="inputs to try (200,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--target", choices=TARGETS, help="one of them only")
    options = parser.parse_args()
    names = [options.target] if options.target else list(TARGETS)
    tried: Counter[str] = Counter()

    def run(data: bytes) -> None:
        target, size, *_ = data.ljust(2, b"\0")
        name = names[target % len(names)]
        TARGETS[name](data[2:], size % 16 + 1)
        tried[name] += 1
        if sum(tried.values()) == options.runs:
            print(", ".join(f"{name} {tried[name]}" for name in names), flush=True)
            print(f"{options.runs} inputs tried, none broke a rule", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        write_corpus(corpus, names)
        escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in DICTIONARY)
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        atheris.Setup(
            [
                sys.argv[0],
                str(corpus),
                f"-dict={words}",
                f"-runs={options.runs}",
                f"-seed={options.seed}",
                "-max_len=600",
                "-print_final_stats=1",
            ],
            run,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
