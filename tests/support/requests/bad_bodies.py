"""Webhooks whose body is wrong: not JSON, of another kind than allowed, or of another length."""

from __future__ import annotations

import gzip

from tests.support.requests.bad_requests import MEANT, Case, ask, chunked, framed, post

_CHUNKED = b"b\r\n" + MEANT + b"\r\n0\r\n\r\n"

#: Nested one deeper than allowed, and with one value more than allowed.
DEEP = b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"
MANY = b'{"a":[' + b"0," * 2**20 + b"0]}"


def refuse_body(body: bytes, says: str = "byte [0-9]+") -> Case:
    return Case(post(body), 400, says)


#: Bodies that are not one JSON object.
PAYLOADS = {
    "empty": refuse_body(b"", "the payload is empty"),
    "spaces": refuse_body(b" \r\n\t", "the payload is empty"),
    "null": refuse_body(b"null", "top level is not an object"),
    "true": refuse_body(b"true", "top level is not an object"),
    "integer": refuse_body(b"1", "top level is not an object"),
    "float": refuse_body(b"1e400", "top level is not an object"),
    "string": refuse_body(b'"bad"', "top level is not an object"),
    "array": refuse_body(b"[]", "top level is not an object"),
    "array of objects": refuse_body(b'[{"bad":1}]', "top level is not an object"),
    "open brace": refuse_body(b"{", "ends too early"),
    "close brace": refuse_body(b"}"),
    "cut in a string": refuse_body(b'{"bad":"x', "ends too early"),
    "cut in a number": refuse_body(b'{"bad":1', "ends too early"),
    "key alone": refuse_body(b'{"bad"}', "expected ':'"),
    "no value": refuse_body(b'{"bad":}', "expected a value"),
    "comma at the end": refuse_body(b'{"bad":1,}', "expected a key"),
    "comma alone": refuse_body(b"{,}", "expected a key"),
    "two commas": refuse_body(b'{"bad":[1,,2]}', "expected a value"),
    "wrong bracket": refuse_body(b'{"bad":[1}', "expected ',' or ']'"),
    "single quotes": refuse_body(b"{'bad':1}", "expected a key"),
    "bare key": refuse_body(b"{bad:1}", "expected a key"),
    "NaN": refuse_body(b'{"bad":NaN}', "expected a value"),
    "Infinity": refuse_body(b'{"bad":-Infinity}', "expected a value"),
    "leading zero": refuse_body(b'{"bad":01}'),
    "plus sign": refuse_body(b'{"bad":+1}'),
    "no whole part": refuse_body(b'{"bad":.5}'),
    "no fraction": refuse_body(b'{"bad":1.}'),
    "no exponent": refuse_body(b'{"bad":1e}'),
    "hexadecimal": refuse_body(b'{"bad":0x1}'),
    "control character": refuse_body(b'{"bad":"\x01"}', "control character"),
    "line break": refuse_body(b'{"bad":"\n"}', "control character"),
    "wrong escape": refuse_body(b'{"bad":"\\x41"}', "invalid escape"),
    "short escape": refuse_body(b'{"bad":"\\ud83"}', "invalid escape"),
    "comment": refuse_body(b'{"bad":1 /* no */}'),
    "two objects": refuse_body(b'{"bad":1}{"bad":2}', "continues after the object"),
    "null byte after it": refuse_body(b'{"bad":1}\0', "continues after the object"),
    "two byte order marks": refuse_body(b"\xef\xbb\xbf" * 2 + b'{"bad":1}', "byte order mark"),
    "UTF-16": refuse_body('{"bad":1}'.encode("utf-16"), "top level is not an object"),
    "overlong UTF-8": refuse_body(b'{"bad":"\xc0\xaf"}', "invalid UTF-8"),
    "cut UTF-8": refuse_body(b'{"bad":"\xf0\x9f\x92"}', "invalid UTF-8"),
    "surrogate in UTF-8": refuse_body(b'{"bad":"\xed\xa0\x80"}', "invalid UTF-8"),
    "beyond Unicode": refuse_body(b'{"bad":"\xf4\x90\x80\x80"}', "invalid UTF-8"),
    "Latin-1 key": refuse_body(b'{"b\xe4d":1}', "invalid UTF-8"),
    "XML": refuse_body(b"<bad>1</bad>", "top level is not an object"),
    "gzip that nobody announced": refuse_body(
        gzip.compress(b"{}", mtime=0), "top level is not an object"
    ),
    "random bytes": refuse_body(bytes(range(256))),
    "too deep": Case(post(DEEP), 413, "nested deeper than 500 levels"),
    "too many values": Case(post(MANY), 413, "more than 1048576 values"),
}

#: Bodies of another kind than their headers may say.
KINDS = {
    **{
        f"Content-Encoding {coding}": Case(
            post(b'{"bad":1}', f"Content-Encoding: {coding}"), 415, "send the body uncompressed"
        )
        for coding in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x")
    },
    # To some servers the first one counts, to others the last.
    "Content-Type twice": Case(
        post(MEANT, "Content-Type: application/json", "Content-Type: text/plain"),
    ),
    "Content-Encoding twice": Case(
        post(b'{"bad":1}', "Content-Encoding: identity", "Content-Encoding: gzip"),
        415,
        "send the body uncompressed",
    ),
    "Host twice": Case(post(MEANT, "Host: elsewhere")),
    "form": Case(
        post(b"payload=%7B%7D", "Content-Type: application/x-www-form-urlencoded"),
        400,
        "the body is a form; choose application/json",
    ),
    "multipart": Case(
        post(b"--x\r\n\r\n{}\r\n--x--", "Content-Type: multipart/form-data; boundary=x"),
        400,
        "the body is a form; choose application/json",
    ),
}

#: Bodies that end elsewhere than the request says (RFC 9112, sections 6 and 7).
FRAMINGS = {
    "Content-Length too long": Case(
        framed("Content-Length: 100"), 400, "ended before|100 were announced", end=True
    ),
    "Content-Length of a large body too long": Case(
        framed("Content-Length: 2000000", body=b'{"bad":"' + b"x" * 1_500_000),
        400,
        "ended before|2000000 were announced",
        end=True,
    ),
    "Content-Length too short": Case(framed("Content-Length: 5"), 400, "ends too early"),
    "Content-Length negative": Case(framed("Content-Length: -1")),
    "Content-Length with a plus sign": Case(framed("Content-Length: +9")),
    "Content-Length not a number": Case(framed("Content-Length: nine")),
    "Content-Length hexadecimal": Case(framed("Content-Length: 0x9")),
    "Content-Length a fraction": Case(framed("Content-Length: 9.0")),
    "Content-Length in other digits": Case(framed("Content-Length: \xb9")),
    "Content-Length beyond 64 bits": Case(framed("Content-Length: 99999999999999999999")),
    "Content-Length twice, different": Case(framed("Content-Length: 9", "Content-Length: 10")),
    "Content-Length as a list": Case(framed("Content-Length: 9, 10")),
    "Content-Length beyond the limit": Case(
        framed("Content-Length: 26214401"), 413, "26214401 bytes, more than 26214400"
    ),
    # section 6.3: the transfer coding overrides the length
    "Content-Length and chunked": Case(
        framed("Content-Length: 5", "Transfer-Encoding: chunked", body=_CHUNKED),
    ),
    "chunked, cut in a chunk": Case(
        chunked(b'64\r\n{"bad":'), 400, "ended before|ends too early", end=True
    ),
    "chunked, cut after a chunk": Case(
        chunked(b'7\r\n{"bad":\r\n'), 400, "ended before|ends too early", end=True
    ),
    # not every server tells of the cut; the object is whole by its own closing brace
    "chunked, cut after the object": Case(
        chunked(b"b\r\n" + MEANT + b"\r\n"),
        400,
        "ended before",
        end=True,
    ),
    "chunked, cut in a size": Case(chunked(b"9"), 400, "ended before|is empty", end=True),
    "chunked, no chunk at all": Case(chunked(b""), 400, "ended before|is empty", end=True),
    "chunked, empty": Case(chunked(b"0\r\n\r\n"), 400, "the payload is empty"),
    "chunked, size not a number": Case(chunked(b'x\r\n{"bad":1}\r\n0\r\n\r\n')),
    "chunked, size negative": Case(chunked(b'-9\r\n{"bad":1}\r\n0\r\n\r\n')),
    "chunked, size beyond 64 bits": Case(
        chunked(b'fffffffffffffffff\r\n{"bad":1}\r\n0\r\n\r\n'), end=True
    ),
    "chunked, size too small": Case(chunked(b'5\r\n{"bad":1}\r\n0\r\n\r\n')),
    "chunked, endless size": Case(chunked(b"0" * 100_000 + b"\r\n\r\n"), end=True),
    "chunked, endless extension": Case(chunked(b"9;" + b"x" * 100_000 + b"\r\n"), end=True),
    "chunked twice": Case(
        framed("Transfer-Encoding: chunked, chunked", body=b'9\r\n{"bad":1}\r\n0\r\n\r\n')
    ),
    "chunked within gzip": Case(
        framed("Transfer-Encoding: gzip, chunked", body=b'9\r\n{"bad":1}\r\n0\r\n\r\n')
    ),
    "chunked, then something": Case(
        framed("Transfer-Encoding: chunked, identity", body=b'9\r\n{"bad":1}\r\n0\r\n\r\n')
    ),
    "transfer coding unknown": Case(framed("Transfer-Encoding: x")),
    "chunked in HTTP/1.0": Case(
        ask(
            "POST",
            "/webhook",
            body=b'9\r\n{"bad":1}\r\n0\r\n\r\n',
            framing=("Transfer-Encoding: chunked",),
            version="HTTP/1.0",
        )
    ),
}
