"""Whatever is sent to the source of a provider: a decision, and no error of another kind."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from portable_core.sources.decision import Admit, Refuse
from portable_core.sources.handshakes import MAX_VALUE_CHARACTERS, Answer
from portable_core.sources.presets import PRESETS
from portable_core.sources.request import FORM, SourceRequest
from portable_core.sources.signatures import parse_sources
from tests.support.senders import SENDERS

SOURCES = parse_sources(
    ",".join(
        f"{name}={name}{':' if sent.secret else ''}{sent.secret}" for name, sent in SENDERS.items()
    )
).use_keys(lambda address, key_id: SENDERS["pubsub-oidc"].keys.get(key_id))
NAMES = sorted({name.lower() for sent in SENDERS.values() for name in sent.headers} | {"x-other"})
VALUES = sorted({value for sent in SENDERS.values() for value in sent.headers.values()})
QUERIES = ["hub.mode=subscribe&hub.challenge=1", "crc_token=a", "validationToken=%00", "token=x"]
BODIES = [
    b'{"type":"url_verification","challenge":"\\ud83d"}',
    b'{"verification_token":[1]}',
    b'[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]',
    b'{"signature":{"timestamp":1e9,"token":null,"signature":true}}',
    b"webhook_id=%ff",
    b"[" * 5000,
    json.dumps({"value": [{"clientState": "x" * 9000}]}).encode(),
]

text = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(max_codepoint=255), max_size=20),
    st.sampled_from(["", "v0=", "t=1,v1=", "a" * 9000, "Basic ", "Bearer ", FORM]),
)
headers = st.dictionaries(st.sampled_from([*NAMES, "content-type"]), st.lists(text, max_size=2))
queries = st.sampled_from(QUERIES) | st.text(st.characters(max_codepoint=255), max_size=30)
bodies = st.sampled_from(BODIES) | st.binary(max_size=40)
methods = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"])


@given(st.sampled_from(sorted(SENDERS)), methods, headers, queries, bodies, st.integers(0, 2**45))
def test_any_request(
    name: str,
    method: str,
    given_: dict[str, list[str]],
    query: str,
    body: bytes,
    now_ms: int,
) -> None:
    request = SourceRequest(lambda n: given_.get(n.lower(), []), body, method, query, "https://x/y")
    decision = SOURCES.decide(name, request, now_ms)
    if isinstance(decision, Refuse):
        assert decision.error.status in (400, 401)
        assert "\n" not in str(decision.error)
    elif isinstance(decision, Answer):
        assert PRESETS[name].row.handshakes
        assert len(decision.body) <= 12 * MAX_VALUE_CHARACTERS
        assert all(value.isascii() and value.isprintable() for _, value in decision.headers)
    else:
        assert decision == Admit()
        form = PRESETS[name].row.form
        read = [*given_.values(), [query], [body.decode("latin-1")]]
        secret = SENDERS[name].secret
        known = {*SENDERS[name].headers.values(), secret}
        # Nothing is admitted that has no part of a right request.
        assert form is None or any(v in t for v in known for values in read for t in values)
