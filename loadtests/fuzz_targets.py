"""What the fuzzer feeds: each target takes bytes, and raises for what no parser may do.

Errors of the project's own root are answers; every other exception is a finding.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import atheris

with atheris.instrument_imports(include=["portable_core", "prometheus_client"]):
    from portable_core.adapters.authentication.key_set import KeySet
    from portable_core.adapters.authentication.oidc import IdTokenVerifier
    from portable_core.adapters.authentication.source_keys import read_jwk_set
    from portable_core.adapters.authentication.tokens import Guard
    from portable_core.adapters.flask_app.queries import (
        read_before,
        read_limit,
        read_search,
    )
    from portable_core.adapters.metrics import Metrics
    from portable_core.cli.captured_request import parse_request
    from portable_core.errors import MalformedPayload, WebhookSyncError
    from portable_core.ingest.admission import check_source
    from portable_core.payload_hash.canonical import canonicalize, hash_payload, is_plain
    from portable_core.payload_hash.coding import MAX_UNPACKED_BYTES, unpack
    from portable_core.payload_hash.exact import canonicalize_exactly
    from portable_core.records import MAX_INTEGER, Pair
    from portable_core.settings import Settings
    from portable_core.sources.handshakes import MAX_VALUE_CHARACTERS, Answer
    from portable_core.sources.presets import PRESETS
    from portable_core.sources.request import SourceRequest
    from portable_core.sources.rows import read_row
    from portable_core.sources.schemes import sign
    from portable_core.sources.signatures import parse_sources
    from portable_core.sync.protocol import parse_integer, parse_store
    from portable_core.webhooks.feed import parse_position
    from portable_core.webhooks.search import FOREVER, MAX_PAGE_ROWS
    from portable_core.wire.negotiation import (
        ENCODINGS,
        Reader,
        WireLimits,
        choose_encoding,
        negotiate,
        read_stream,
    )
    from portable_core.wiring import build_node

import tomllib

from werkzeug.datastructures import MultiDict  # after the imports that are watched

#: Takes the input and the size of the chunks it comes in.
Target = Callable[[bytes, int], None]

#: So much of an input goes into a stream: long ones in small chunks would take most of the time.
STREAM_BYTES = 600

LIMITS = WireLimits(element_bytes=4096, meta_bytes=1024)

JSON = ENCODINGS["application/json"]
MSGPACK = ENCODINGS["application/vnd.msgpack"]

_FORMS = ("github", "stripe", "standard", "hmac-sha256@X-Signature", "livekit")
_SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
_BODY = b'{"signed":true}'


def check_stream(make_reader: Callable[[], Reader[Any]]) -> Target:
    """Check that the reader returns the same for the whole and for the chunks."""

    def check(data: bytes, size: int) -> None:
        data = data[:STREAM_BYTES]
        whole = _read(make_reader(), data, max(1, len(data)))
        cut = _read(make_reader(), data, size)
        if whole != cut:
            raise AssertionError(f"whole: {whole}; in chunks of {size}: {cut}")

    return check


def _read(reader: Reader[Any], data: bytes, size: int) -> tuple[object, ...]:
    items: list[Any] = []
    fault: tuple[object, ...] = ()
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    try:
        for item in read_stream(reader, chunks):
            items.append(item)
    except WebhookSyncError as error:
        fault = (type(error), getattr(error, "element", None))
    return items, reader.whole, reader.count, fault


def check_payload(data: bytes, size: int) -> None:
    """Both paths to the canonical bytes give the same ones, or refuse for the same reason."""
    paths = _canonicalize(canonicalize, data), _canonicalize(canonicalize_exactly, data)
    if paths[0] != paths[1]:
        raise AssertionError(f"{paths[0]!r} by the fast path, {paths[1]!r} by the exact one")
    plain = is_plain(data)
    if isinstance(paths[0], bytes):
        if canonicalize(paths[0]) != paths[0]:
            raise AssertionError(f"{paths[0]!r} has other canonical bytes")
        if not 0 <= hash_payload(data, "blake2b", b"key") < 2**53:
            raise AssertionError("a hash out of range")
    elif plain:
        raise AssertionError("plain, but malformed")


def _canonicalize(path: Callable[[bytes], bytes], data: bytes) -> bytes | tuple[object, ...]:
    try:
        return path(data)
    except MalformedPayload as error:
        return type(error), error.offset


def check_text(parse: Callable[[str], object]) -> Target:
    """A header or a part of an address: bytes as WSGI hands them over (PEP 3333)."""

    def check(data: bytes, size: int) -> None:
        with suppress(WebhookSyncError):
            parse(data.decode("latin-1"))

    return check


def check_value(parse: Callable[[str], object]) -> Target:
    """A parser of the protocol's small texts, whose error is ``ValueError`` by contract."""

    def check(data: bytes, size: int) -> None:
        with suppress(ValueError):
            parse(data.decode("utf-8", "replace"))

    return check


def check_signature(form: str) -> Target:
    """No header that was not made with the secret admits a webhook."""
    names = list(sign(f"{form}:{_SECRET}", b"another", 0, "id"))
    sources = parse_sources(f"source={form}:{_SECRET}")

    def check(data: bytes, size: int) -> None:
        values = dict(zip(names, data.decode("latin-1").split("\0"), strict=False))
        try:
            sources.verify(
                "source",
                lambda name: [values[name]] if name in values else [],
                _BODY,
                1_700_000_000_000,
            )
        except WebhookSyncError:
            return
        raise AssertionError(f"{values} was admitted")

    return check


def check_source_table(data: bytes, size: int) -> None:
    """A table of ``SOURCES_FILE``: a row, or a ``ValueError`` in one line."""
    with suppress(ValueError, RecursionError):
        columns = tomllib.loads(data.decode("utf-8", "replace"))
        try:
            read_row(columns, {name: preset.row for name, preset in PRESETS.items()})
        except ValueError as error:
            if len(str(error)) > 20_000:
                raise AssertionError("a message without a bound") from error


_GREETING = parse_sources(
    ",".join(
        f"{name}={name}:{_SECRET}"
        for name, preset in PRESETS.items()
        if preset.row.handshakes and name not in ("discord",)
    )
)


def check_handshake(data: bytes, size: int) -> None:
    """Whatever a caller sends to verify an address, the response is bounded."""
    query, _, body = data.partition(b"\0")
    text = query.decode("latin-1")
    for source in _GREETING.rows:
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            request = SourceRequest(lambda _: [text], body, method, text)
            decision = _GREETING.decide(source, request, 1_700_000_000_000)
            if isinstance(decision, Answer):
                if len(decision.body) > 12 * MAX_VALUE_CHARACTERS:
                    raise AssertionError(f"{source}: a response of {len(decision.body)} bytes")
                if any(set(name + value) & set("\r\n") for name, value in decision.headers):
                    raise AssertionError(f"{source}: a line break in a header")


def check_gzip(data: bytes, size: int) -> None:
    with suppress(MalformedPayload):
        if len(unpack(data)) > MAX_UNPACKED_BYTES:
            raise AssertionError("unpacked beyond the limit")


def check_captured_request(data: bytes, size: int) -> None:
    with suppress(WebhookSyncError):
        parse_request(data)


def check_token(guard: Guard) -> Target:
    def check(data: bytes, size: int) -> None:
        try:
            guard.check(data.decode("latin-1"))
        except WebhookSyncError:
            return
        raise AssertionError(f"{data!r} was let in")

    return check


def check_query(data: bytes, size: int) -> None:
    """The query of a page: each parser that reads one, and that what it lets in is in range."""
    names = ("start", "end", "source", "hash", "id", "value", "before", "limit")
    query = MultiDict(zip(names, data.decode("utf-8", "replace").split("\0"), strict=False))
    with suppress(WebhookSyncError):
        search = read_search(query, 10**12)
        if not (0 <= search.start <= FOREVER and 0 <= search.end <= FOREVER):
            raise AssertionError(f"a time out of range: {search}")
        if search.hash is not None and not 0 <= search.hash <= MAX_INTEGER:
            raise AssertionError(f"a hash out of range: {search}")
    with suppress(WebhookSyncError):
        check_pair(read_before(query))
    with suppress(WebhookSyncError):
        limit = read_limit(query)
        if not 1 <= limit <= MAX_PAGE_ROWS:
            raise AssertionError(f"a limit out of range: {limit}")


def check_position(data: bytes, size: int) -> None:
    """A part of an address, percent-decoded."""
    with suppress(WebhookSyncError):
        check_pair(parse_position(data.decode("utf-8", "replace")))


def check_pair(pair: Pair | None) -> None:
    # One more than the last hash: a position is what may come next.
    if pair and not (0 <= pair.timestamp <= MAX_INTEGER and 0 <= pair.hash <= MAX_INTEGER + 1):
        raise AssertionError(f"out of range: {pair}")


_SETTINGS = Settings.from_env("slave", {"STORE": "memory:", "SYNC_TOKENS": "a-secret-token"})
_METRICS, _NODE = Metrics(_SETTINGS), build_node(_SETTINGS)


def check_metrics_accept(data: bytes, size: int) -> None:
    """Check that a scraper gets metrics whatever it accepts."""
    text, kind = _METRICS.expose(_NODE, data.decode("latin-1"))
    if not text or not kind:
        raise AssertionError("no metrics")


#: Nothing listens there, so that a key is never found.
_NO_KEYS = KeySet("http://127.0.0.1:9/")

TARGETS: Mapping[str, Target] = {
    "json-pairs": check_stream(JSON.read_pairs),
    "json-records": check_stream(lambda: JSON.read_records(LIMITS)),
    "msgpack-pairs": check_stream(MSGPACK.read_pairs),
    "msgpack-records": check_stream(lambda: MSGPACK.read_records(LIMITS)),
    "payload": check_payload,
    "accept": check_text(negotiate),
    "content-type": check_text(choose_encoding),
    "metrics-accept": check_metrics_accept,
    "position": check_position,
    "source": check_text(check_source),
    "integer": check_value(parse_integer),
    "store-header": check_value(parse_store),
    "query": check_query,
    **{f"signature-{form}": check_signature(form) for form in _FORMS},
    "source-table": check_source_table,
    "handshake": check_handshake,
    "captured-request": check_captured_request,
    "gzip": check_gzip,
    "jwk-set": check_value(lambda text: read_jwk_set(text.encode())),
    "token": check_token(Guard(["a-secret-token"])),
    "id-token": check_token(
        Guard(verify_id_token=IdTokenVerifier(("audience",), ("a@example.com",), _NO_KEYS).verify)
    ),
}
