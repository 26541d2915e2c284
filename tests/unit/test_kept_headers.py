"""Which headers are kept: those that are asked for, never those that are secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from portable_core.errors import BadRequest
from portable_core.ingest.admission import Admission
from portable_core.payload_hash.identity import EVENT_HEADERS
from portable_core.settings import Settings
from portable_core.sources.kept_headers import DEFAULT_KEPT, NEVER_KEPT, KeptParts, choose_kept


@pytest.mark.parametrize("name", NEVER_KEPT)
def test_a_secret_is_kept_only_by_an_override(name: str) -> None:
    for keep in (DEFAULT_KEPT, ("*",), (name,), (name[:5] + "*",)):
        assert not choose_kept(keep, read=[name])(name)
    assert choose_kept((), override=[name])(name)


def test_a_header_with_a_static_token_is_a_secret() -> None:
    assert choose_kept(("*",))("x-my-token")
    assert not choose_kept(("*", "x-my-token"), secret=["x-my-token"])("x-my-token")
    assert choose_kept(("*",), secret=["x-my-token"], override=["x-my-token"])("x-my-token")


@pytest.mark.parametrize("name", EVENT_HEADERS)
def test_event_headers_are_always_kept(name: str) -> None:
    assert choose_kept(())(name)


def test_what_a_rule_reads_is_kept() -> None:
    assert choose_kept((), read=["x-id"])("x-id")
    assert not choose_kept(())("x-id")


def test_a_star_stands_for_everything_else() -> None:
    is_kept = choose_kept(("*",))
    assert is_kept("content-type")
    assert is_kept("content-length")
    assert is_kept("anything")


def test_a_beginning_stands_for_any_rest() -> None:
    is_kept = choose_kept(("x-a-*", "y"))
    assert is_kept("x-a-")
    assert is_kept("x-a-b")
    assert not is_kept("x-b")
    assert is_kept("y")
    assert not is_kept("y-z")


@pytest.mark.parametrize(
    "name",
    [
        "x-hub-signature-256",
        "idempotency-key",
        "x-request-uuid",
        "linear-delivery",
        "aeg-event-type",
    ],
)
def test_what_consumers_need_is_kept_by_default(name: str) -> None:
    assert choose_kept(DEFAULT_KEPT)(name)


def test_a_header_that_is_the_secret_of_a_source_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(
        '[f]\nsignature.token = { read = "header:X-Pass" }\n[q]\npreset = "mailchimp"\n'
    )
    env = {
        "SYNC_AUTH": "none",
        "SOURCES": "s=token@X-Pass:secret,s=github:other",
        "SOURCES_FILE": str(file),
        "KEEP_HEADERS": "x-*",
    }
    settings = Settings.from_env("slave", env)
    parts = KeptParts(settings.keep_headers, (), settings.sources.rows)
    for source in ("s", "f"):
        assert not parts.headers(source)("x-pass")
        assert parts.headers(source)("x-other")
    assert parts.headers("other")("x-pass")
    assert parts.query("q", "token=secret&a=1") == "a=1"
    anyway = KeptParts(settings.keep_headers, ("x-pass",), settings.sources.rows)
    assert anyway.headers("s")("x-pass")


def test_the_coding_of_a_body_that_may_be_compressed_is_always_kept(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text("[s]\ncompressed = true\n")
    env = {"SYNC_AUTH": "none", "SOURCES_FILE": str(file), "KEEP_HEADERS": "x-other"}
    settings = Settings.from_env("slave", env)
    parts = KeptParts(settings.keep_headers, (), settings.sources.rows)
    assert parts.headers("s")("content-encoding")
    assert not parts.headers("t")("content-encoding")


def test_long_names_and_types_are_judged_without_being_remembered() -> None:
    """A sender may send any number of them, of 384 KiB each."""
    env = {"SYNC_AUTH": "none", "STORE": "memory:"}
    admission = Admission(Settings.from_env("slave", env))
    long = "x-github-" + "a" * 1000
    head = [(long.encode(), b"a"), (b"x" * 1000, b"b")]
    assert admission.read_head("", head, "").headers == {long: "a"}
    admission.check_head("", "application/json; x=" + "y" * 1000, None)
    with pytest.raises(BadRequest):
        admission.check_head("", "application/x-www-form-urlencoded; x=" + "y" * 1000, None)
    assert admission._remember_kept.cache_info().currsize == 0
    assert admission._remember_head.cache_info().currsize == 0
    for _ in range(2):
        meta = admission.read_head("", [(b"x-github-event", b"push")], "")
        assert meta.headers == {"x-github-event": "push"}
        admission.check_head("", "application/json", None)
        with pytest.raises(BadRequest):
            admission.check_head("", "multipart/form-data", None)
    assert admission._remember_kept.cache_info().hits == 1
