"""Wrong requests of those who have the token: to a slave's ``/sync``, and to the master."""

from __future__ import annotations

import gzip

from tests.support.requests.bad_requests import TOKEN, Case, ask, known


def sync(query: str, body: bytes = b"[]", *headers: str) -> bytes:
    return known("POST", f"/sync{query}", *headers, body=body)


WHOLE = "?start=0&end=9007199254740991"

_QUERIES = {
    "": "start: missing",
    "?start=0": "end: missing",
    "?end=1": "start: missing",
    "?start=0&start=1&end=2": "start: must occur once",
    "?start=0&end=2&end=2": "end: must occur once",
    "?start=-1&end=2": "start: must be an integer",
    "?start=0&end=": "end: must be an integer",
    "?start=0&end=%20": "end: must be an integer",
    "?start=0&end=2%00": "end: must be an integer",
    "?start=zero&end=2": "start: must be an integer",
    "?start=1e3&end=2000": "start: must be an integer",
    "?start=0x1&end=2": "start: must be an integer",
    "?start=+1&end=2": "start: must be an integer",
    "?start=1_0&end=20": "start: must be an integer",
    "?start=%D9%A1&end=2": "start: must be an integer",
    "?start=0.0&end=2": "start: must be an integer",
    "?start=0&end=9007199254740992": "end: must be an integer",
    "?start=0&end=" + "9" * 5000: "end: must be an integer",
    "?start[]=0&end=2": "start: missing",
    "?START=0&end=2": "start: missing",
    "?start=2&end=2": "is empty",
    "?start=3&end=2": "is empty",
    WHOLE + "&span=-1": "span: must be an integer",
    WHOLE + "&span=x": "span: must be an integer",
    WHOLE + "&span=120000&span=1": "span: must occur once",
    WHOLE + "&hash=crc32c&hash=crc32c": "hash: must occur once",
    WHOLE + "&keep=0&keep=1": "keep: must occur once",
    WHOLE + "&compare_only=1&compare_only=1": "compare_only: must occur once",
    WHOLE + "&hash_start=5&hash_end=5": "hash_end: the range of hashes",
    WHOLE + "&hash_start=-1": "hash_start: must be an integer",
    WHOLE + "&hash_end=9007199254740992": "hash_end: must be an integer",
    WHOLE + "&hash_start=1&hash_start=2": "hash_start: must occur once",
    WHOLE + "&hash_end=1&hash_end=2": "hash_end: must occur once",
    WHOLE + "&master=alpha": "master: must be a UUID",
    WHOLE + "&master=": "master: must be a UUID",
    WHOLE + "&master=a&master=b": "master: must occur once",
    "?%ff=%fe&%00": "start: missing",
    "?" + "&" * 5000: "start: missing",
}

#: Of a slave: its own endpoint.
SLAVE = {
    **{f"sync {query[:50]}": Case(sync(query), 400, says) for query, says in _QUERIES.items()},
    "span of another": Case(sync(WHOLE + "&span=1"), 409, "span: this slave has 120000 ms"),
    "older master": Case(sync(WHOLE + "&hash=crc32c"), 409, "identity: the master is of an older"),
    "no hash": Case(sync(WHOLE + "&identity=1&hash="), 409, "hash: this slave has crc32c"),
    "hash of another": Case(
        sync(WHOLE + "&identity=1&hash=blake2b"), 409, "hash: this slave has crc32c"
    ),
    "hash unknown": Case(
        sync(WHOLE + "&identity=1&hash=%00%ff"), 409, "hash: this slave has crc32c"
    ),
    **{
        f"pairs {body[:20]!r}": Case(sync(WHOLE, body), 400, says)
        for body, says in {
            b"": "without its closing mark",
            b"[": "without its closing mark",
            b"[1,2": "without its closing mark",
            b"[1]": "element 0: timestamp: missing",
            b"{}": "element 0: the stream must be a JSON array",
            b"null": "element 0: the stream must be a JSON array",
            b'["a",1]': "element 0: hash",
            b"[-1,1]": "element 0: hash",
            b"[1,2.5]": "element 0: timestamp",
            b"[true,1]": "element 0: hash",
            b"[1,9007199254740992]": "element 0: timestamp",
            b"[" + b"9" * 5000 + b",1]": "element 0: hash",
            b"[1,200,2,100]": "element 1: timestamp: must not decrease",
            b"[[[[": "element 0: hash",
            b"[1,2]x": "element 1: .*continues",
            b"\xff\xfe": "element 0: the stream must be a JSON array",
        }.items()
    },
    **{
        f"MessagePack {body!r}": Case(
            sync(WHOLE, body, "Content-Type: application/vnd.msgpack"), 400, says
        )
        for body, says in {
            b"": "without its closing mark",
            b"\x01": "without its closing mark",
            b"\x01\xc0": "element 0: timestamp: missing",
            b"\xc1": "element 0: hash",
            b"\xdf\xff\xff\xff\xff": "element 0: hash",
            b"\xc6\xff\xff\xff\xff": "element 0: hash|closing mark",
            b"\x01\x02\xc0\xc0": "element 1: the stream continues",
        }.items()
    },
    "pairs, chunked and cut": Case(
        ask(
            "POST",
            f"/sync{WHOLE}",
            f"Authorization: Bearer {TOKEN}",
            body=b"4\r\n[1,2\r\n",
            framing=("Transfer-Encoding: chunked",),
        ),
        400,
        "disconnected|closing mark|ended before",
        end=True,
    ),
    "pairs, compressed": Case(
        sync(WHOLE, gzip.compress(b"[]"), "Content-Encoding: gzip"), 415, "uncompressed"
    ),
    "pairs as text": Case(sync(WHOLE, b"[]", "Content-Type: text/plain"), 415, "Content-Type"),
    **{
        f"Accept {accept}": Case(sync(WHOLE, b"[]", f"Accept: {accept}"), 415, "Accept")
        for accept in ("text/html", "application/json;q=0", "*/*;q=0", '"', ",;,;=", "q=1")
    },
    "two slashes": Case(known("POST", f"//sync{WHOLE}", body=b"[]"), 404, "one slash"),
    "PUT": Case(known("PUT", "/sync"), 405, "not allowed"),
    "DELETE": Case(known("DELETE", f"/sync{WHOLE}"), 405, "not allowed"),
    "forget nobody": Case(known("DELETE", "/masters/%00%ff"), 404, "no master"),
    "forget all": Case(known("DELETE", "/masters"), 405, "not allowed"),
    **{
        path: Case(known("POST", path + WHOLE, body=b"[]"), 404, "was not found")
        for path in ("/sync//", "/sync/..", "/sync%2f%2f", "/./sync", "/sync%00", "/records")
    },
}

#: Of the master: what a scheduler, a stopping slave and a reader ask of it.
MASTER = {
    **{
        f"records of {name[:20]!r}": Case(
            known("POST", f"/records?slave={name}", body=b"[]"), 400, "slave: .* node's name"
        )
        for name in ("", "..", "a/b", "%00", "%ff", "a%20b", "x" * 5000)
    },
    **{
        f"records {body[:20]!r}": Case(known("POST", "/records?slave=a", body=body), 400, says)
        for body, says in {
            b"": "without its closing mark",
            b"{}": "element 0: ",
            b"[{}]": "element 0: ",
            b'[{"hash":1,"timestamp":2}]': "element 0: ",
            b'[{"hash":"1","timestamp":2,"data":{}}]': "element 0: ",
            b'[{"hash":1,"timestamp":2,"data":{}},': "without its closing mark",
            b'[{"hash":1,"timestamp":2,"raw":"%"}]': "element 0: ",
            b'[{"hash":1,"timestamp":2,"data":{},"meta":[]}]': "element 0: ",
        }.items()
    },
    "records, compressed": Case(
        known("POST", "/records?slave=a", "Content-Encoding: gzip", body=b"[]"), 415, "uncompressed"
    ),
    "records as text": Case(
        known("POST", "/records?slave=a", "Content-Type: text/plain", body=b"[]"), 415, "Content-"
    ),
    "nobody's sync": Case(known("POST", "/trigger-sync?slave=nobody"), 404, "nobody"),
    "sync of nothing": Case(known("POST", "/trigger-sync?slave=%00"), 404, "slave"),
    "GET": Case(known("GET", "/trigger-sync"), 405, "not allowed"),
    **{
        f"webhooks {query}": Case(known("GET", f"/webhooks{query}", f"Accept: {kind}"), 400, says)
        for kind, query, says in (
            ("application/x-ndjson", "?since=x", "webhook id: must be"),
            ("application/x-ndjson", "?since=-1", "webhook id: must be"),
            ("application/x-ndjson", f"?since={'9' * 5000}", "webhook id: must be"),
            ("application/x-ndjson", "?since=%D9%A1", "webhook id: must be"),
            ("application/x-ndjson", "?upto=x", "upto: must be"),
            ("application/x-ndjson", "?limit=x", "limit: must be"),
            ("application/x-ndjson", "?limit=-1", "limit: must be"),
            ("application/x-ndjson", "?limit=%C2%B2", "limit: must be"),
            ("application/x-ndjson", "?limit=%D9%A1", "limit: must be"),
            ("application/x-ndjson", f"?limit={'9' * 5000}", "limit: must be"),
            ("application/x-ndjson", "?end=x", "end: must be"),
            ("application/json", "?start=x", "start: "),
            ("application/json", "?start=99999999999999999999", "start: "),
            ("application/json", "?start=00000000000000000000001", "start: "),
            ("application/json", "?start=9999-99-99", "start: "),
            ("application/json", "?hash=x", "hash: "),
            ("application/json", "?hash=%D9%A1", "hash: "),
            ("application/json", "?hash=9999999999999999", "hash: "),
            ("application/json", "?before=x", "webhook id: must be"),
            ("application/json", "?limit=0", "limit: must be"),
            ("application/json", "?limit=99999999999999999999", "limit: must be"),
            ("application/json", "?limit=0000001009999", "limit: must be"),
            ("application/json", "?limit=%D9%A1", "limit: must be"),
            ("application/json", "?limit=1.5", "limit: must be"),
        )
    },
    **{
        f"webhook {id_[:20]}": Case(known("GET", f"/webhooks/{id_}"), status, says)
        for id_, status, says in (
            ("x", 400, "webhook id: must be"),
            ("-", 400, "webhook id: must be"),
            ("%00", 400, "webhook id: must be"),
            ("%ff", 400, "webhook id: must be"),
            ("9" * 5000, 400, "webhook id: must be"),
            ("-1--1", 400, "webhook id: must be"),
            ("1-1", 404, "1-1"),
            ("..%2f..", 404, "was not found"),
        )
    },
    **{
        f"pairs {query}": Case(known("GET", f"/pairs{query}"), 400, says)
        for query, says in (("?start=-1", "start: "), ("?end=x", "end: "), ("?end=1e9", "end: "))
    },
    "pairs as HTML": Case(known("GET", "/pairs", "Accept: text/html"), 415, "Accept"),
}
