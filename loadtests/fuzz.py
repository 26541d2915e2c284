"""Fuzz the parsers with atheris: nothing but errors of our own root may come out of them.

    pip install -e '.[fuzz]'
    python -m loadtests.fuzz                          200,000 inputs over all targets
    python -m loadtests.fuzz --runs 1000000 --target json-records

The vectors of the tests are what it starts from. The first byte of an input chooses the target, the
second one the size of the chunks; the readers of streams are run twice, once with the whole, and
have to return the same. An input that breaks a rule is written to the working directory, and the
process ends with an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import atheris

from loadtests.fuzz_targets import TARGETS

VECTORS = Path(__file__).parent.parent / "tests" / "vectors"

#: Parts of the grammars that random changes would rarely hit upon.
DICTIONARY = (
    *(b'"hash":', b'"timestamp":', b'"data":', b'"raw":', b'"meta":', b'"headers":', b'"source":'),
    *(b'[{"hash":1,"timestamp":2,"data":{}}]', b"\\ud83d", b"9007199254740992", b"null", b"1e400"),
    *(
        b"\x94\x01\x02\x80\xc4\x02{}",
        b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ),
    *(b"signature.hmac", b"handshake", b"header:", b"{body}", b"{timestamp}", b"element:"),
    *(b"application/json", b"application/vnd.msgpack", b"*/*", b";q=0.5", b'"\\"'),
)


#: The longest input. Python refuses an integer of more than 4300 digits in a way of its own.
MAX_BYTES = 6000

DIGITS = b"9" * 5000

#: What targets without vectors start from.
SEEDS: dict[str, tuple[bytes, ...]] = {
    "payload": (
        b'{"a":[1,-0,1.50,1e400,true,false,null],"b":{"c":"\\ud83d\\u00e4"}}',
        b'{"a":1,"a":2}',
        b'{"n":123456789012345678901234567890,"\\/":" "}',
    ),
    "accept": (b"application/json;q=0.5, application/vnd.msgpack, */*;q=0.1",),
    "content-type": (b'application/json; charset="utf-8"',),
    "metrics-accept": (
        b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8,text/plain;q=0.5",
        b"application/openmetrics-text;version=2.0.0",
    ),
    "position": (b"1700000000000-1234", DIGITS, "\u0661-\u00b2".encode()),
    "source-table": (
        b'signature.hmac = { read = "header:A", signed = "{timestamp}.{body}", '
        b'timestamp = "element:t=", separator = "," }\nbody = "json"\n'
        b'[[handshake]]\nmethods = ["GET"]\nwhen = { "query:c" = "*" }\nbody = "{query:c}"',
        b'preset = "slack"\nidentity.id = ["body:/a/0", "form:x"]\nsecrets = ["env:A"]',
    ),
    "handshake": (
        b"hub.mode=subscribe&hub.challenge=1158\0{}",
        b'crc_token=abc\0{"type":"url_verification","challenge":"3eZb"}',
        b'validationToken=a%20b\0{"verification_token":"x"}',
    ),
    "captured-request": (b"POST /webhook/s HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",),
    "gzip": (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xab\xae\x05\x00C\xbf\xa6\xa3\x02\x00\x00\x00",
    ),
    "integer": (b"9007199254740991", DIGITS, "\u0661".encode()),
    "store-header": (b"01234567-89ab-cdef-0123-456789abcdef/7",),
    "query": (
        b"1700000000000\x002026-01-31T09:05\0-\x0012\0x\0y\x001-1\x0050",
        b"\0\0\0\0\0\0\0" + DIGITS,
        DIGITS,
    ),
    "signature-github": (b"sha256=" + b"0" * 64,),
    "signature-stripe": (b"t=1700000000,v1=" + b"0" * 64,),
    "signature-standard": (b"msg_1\x001700000000\0v1," + b"A" * 43 + b"=",),
    "signature-hmac-sha256@X-Signature": (b"A" * 43 + b"=", b"0" * 64),
    "signature-livekit": (
        b"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDAwMDAxMDAsInNoYTI1NiI6IngifQ.QUFBQQ",
        b"eyJhbGciOiJub25lIn0.eyJleHAiOjE3MDAwMDAxMDB9.",
    ),
    "jwk-set": (
        b'{"keys":[{"kty":"RSA","kid":"a","use":"sig","n":"AQAB","e":"Aw"},'
        b'{"kty":"EC","crv":"P-256","kid":"b","x":"AQ","y":"Ag"}]}',
    ),
    "token": (b"Bearer a-token", b"bearer  x.y.z"),
    "id-token": (
        b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJKV1QifQ."
        b"eyJhdWQiOiJhdWRpZW5jZSIsImV4cCI6MTcwMDAwMDAwMH0.AAAA",
    ),
}


def write_corpus(folder: Path, names: list[str]) -> None:
    """The vectors, and :data:`SEEDS`, as inputs of the targets they belong to."""
    for target, name in enumerate(names):
        for number, seed in enumerate(SEEDS.get(name, ())):
            (folder / f"{name}-seed-{number}").write_bytes(bytes([target, number]) + seed)
        encoding, _, noun = name.partition("-")
        if noun not in ("pairs", "records"):
            continue
        for number, vector in enumerate(
            json.loads((VECTORS / "wire" / f"{noun}.json").read_bytes())
        ):
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
                f"-max_len={MAX_BYTES}",
                "-print_final_stats=1",
            ],
            run,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
