"""Whatever the headers, the body and the time: a webhook is admitted or refused, nothing else."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from portable_core.errors import SettingsError, Unauthorized
from portable_core.sources.schemes import sign
from portable_core.sources.signatures import parse_sources

KEY = "whsec_" + base64.b64encode(bytes(24)).decode()
FORMS = [f"{form}:{KEY}" for form in ("github", "stripe", "standard", "hmac-sha256@Header-Name")]
SOURCES = parse_sources(
    ",".join(
        [f"{number}={form}" for number, form in enumerate(FORMS)] + [f"all={f}" for f in FORMS]
    )
)
NOW_S = 1_767_225_600
BODY = b"{}"
RIGHT = {name: value for form in FORMS for name, value in sign(form, BODY, NOW_S, "m").items()}

numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from([str(NOW_S), "9" * 5000, "0" * 20, "-0", "1_0", "٣", "1e400", "0x10", "²"]),
)
fragments = st.one_of(
    st.sampled_from(
        ["t=", "v1=", "v0=", "v1,", "v1a,", "sha256=", ",", ",,,", " ", "=", "\0", "é"]
    ),
    st.sampled_from(sorted(RIGHT.values())),
    st.binary(max_size=33).map(bytes.hex),
    st.binary(max_size=33).map(lambda raw: base64.b64encode(raw).decode()),
    st.text(max_size=8),
    st.text(st.characters(), max_size=4),  # lone surrogates too
    st.binary(max_size=8).map(lambda raw: raw.decode("latin-1")),
    numbers,
)
values = st.one_of(
    st.lists(fragments, max_size=8).map("".join),
    st.tuples(fragments, st.integers(0, 3000)).map(lambda pair: pair[0] * pair[1]),
)
headers = st.one_of(
    st.dictionaries(st.sampled_from(sorted(RIGHT)), st.lists(values, max_size=2)),
    # One header of a rightly signed request replaced.
    st.tuples(st.sampled_from(sorted(RIGHT)), st.lists(values, max_size=2)).map(
        lambda pair: {**{name: [value] for name, value in RIGHT.items()}, pair[0]: pair[1]}
    ),
)
times = st.one_of(st.just(NOW_S * 1000), st.integers())


@given(st.sampled_from(sorted(SOURCES.entries)), headers, st.binary(), times)
def test_any_headers(source: str, given_: dict[str, list[str]], body: bytes, now_ms: int) -> None:
    message = ""
    try:
        SOURCES.verify(source, lambda name: given_.get(name, []), body, now_ms)
    except Unauthorized as error:
        message = str(error)
    assert "\n" not in message
    # Only the body that was signed can be admitted, and only by a right value in place.
    intact = [name for name, value in given_.items() if RIGHT[name] in " ".join(value)]
    assert message or (body == BODY and intact)


@given(st.one_of(st.text(), st.text(st.characters()), st.lists(fragments).map("".join)))
def test_any_setting(text: str) -> None:
    message = "SOURCES: entry "
    try:
        parse_sources(text)
    except SettingsError as error:
        message = str(error)
    assert message.startswith("SOURCES: entry ")
    assert "\n" not in message
