"""The small texts of the sync protocol: what is written is read, and no other text is."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_core.epochs import Loss, Stint
from portable_core.ports import ALL_HASHES, HashRange, SlaveInfo, StoreEpoch, SyncRequest
from portable_core.records import MAX_INTEGER
from portable_core.sync.protocol import (
    format_hashes,
    format_stint,
    format_store,
    format_sync_query,
    info_from_json,
    info_to_json,
    parse_hashes,
    parse_integer,
    parse_stint,
    parse_store,
)

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ID = "0123456789abcdef" * 2
#: Members that slaves of older releases do not send.
NEWER = {"rules", "ranges", "clock", "stint", "continues", "ephemeral", "losses", "erases"}
INFO = SlaveInfo(UUID, 7, 5, 1000, 1001, 120_000, "crc32c", ("application/json", "a/b"))


@pytest.mark.parametrize("number", [0, 1, 1_700_000_000_000, MAX_INTEGER])
def test_integers(number: int) -> None:
    assert parse_integer(str(number)) == number
    assert parse_store(format_store(UUID, number)) == (UUID, number)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1\n", "+1", "-1", "1_0", "1.0", "0x1", "١", str(MAX_INTEGER + 1), "9" * 5000],
)
def test_invalid_integers(text: str) -> None:
    with pytest.raises(ValueError, match="must be an integer from 0 to 9007199254740991"):
        parse_integer(text)
    with pytest.raises(ValueError, match="must be an integer"):
        parse_store(f"{UUID}/{text}")


def test_bounds_of_integers() -> None:
    assert [parse_integer(text, 1, 500) for text in ("1", "007", "500")] == [1, 7, 500]
    for text in ("0", "501", "0000001009999"):
        with pytest.raises(ValueError, match=r"must be an integer from 1 to 500 \(got"):
            parse_integer(text, 1, 500)


@pytest.mark.parametrize(
    "text", ["", UUID, "/1", f"{UUID.upper()}/1", f"{UUID[:-1]}/1", f"{UUID}\n/1", f" {UUID}/1"]
)
def test_invalid_store_headers(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|<uuid>/<generation>"):
        parse_store(text)


@pytest.mark.parametrize(
    "text", ["", ID, "/1", f"{ID[:-1]}/1", f"{ID}0/1", f"{ID.upper()}/1", f"{ID}/", f"{ID}/-1"]
)
def test_invalid_stints(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_stint(text)


@pytest.mark.parametrize("horizon", [0, MAX_INTEGER])
def test_stints(horizon: int) -> None:
    assert parse_stint(format_stint(Stint(ID, horizon))) == (ID, horizon)


@pytest.mark.parametrize(("uuid", "generation"), [("alpha", 1), (UUID, -1), (UUID, 2**53)])
def test_a_store_that_cannot_be_written(uuid: str, generation: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        format_store(uuid, generation)


def test_query() -> None:
    request = SyncRequest(1, MAX_INTEGER, 3, "blake2b", "a/b", ())
    query = {"start": "1", "end": "9007199254740991", "span": "3", "hash": "blake2b"}
    query["identity"] = "1"
    assert format_sync_query(request) == query
    # An older slave knows the second name alone.
    compared = {**query, "compare_only": "1", "keep": "1"}
    assert format_sync_query(replace(request, compare_only=True)) == compared
    named = replace(request, epoch=StoreEpoch(UUID, 7))
    assert format_sync_query(named) == {**query, "store": f"{UUID}/7"}
    stint = replace(request, stint=Stint(ID, 9))
    assert format_sync_query(stint) == {**query, "stint": f"{ID}/9"}
    part = replace(request, hashes=HashRange(7, 9))
    assert format_sync_query(part) == {**query, "hash_start": "7", "hash_end": "9"}


@given(st.integers(0, MAX_INTEGER), st.integers(1, MAX_INTEGER + 1))
def test_a_range_of_hashes_through_a_query(start: int, end: int) -> None:
    hashes = HashRange(start, end)
    if start < end:
        assert parse_hashes(format_hashes(hashes)) == hashes
    else:
        with pytest.raises(ValueError, match=r"^hash_end: the range of hashes .* is empty$"):
            parse_hashes(format_hashes(hashes))


def test_a_query_without_a_range_means_all_hashes() -> None:
    assert parse_hashes({}) == ALL_HASHES
    assert MAX_INTEGER in ALL_HASHES


@pytest.mark.parametrize("name", ["hash_start", "hash_end"])
@pytest.mark.parametrize("text", ["", "-1", "1.0", "9007199254740992", " 1"])
def test_a_bound_of_a_range_that_is_not_an_integer(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: must be"):
        parse_hashes({name: text})


@pytest.mark.parametrize("first", [None, 0, MAX_INTEGER])
def test_info_through_json(first: int | None) -> None:
    info = SlaveInfo(UUID, 7, first, 1000, 1001, 120_000, "crc32c", ("application/json", "a/b"))
    document = json.loads(json.dumps(info_to_json(info)))
    assert info_from_json(document) == info
    assert info_from_json({**document, "more": [1]}) == info


def test_stints_and_losses_through_json() -> None:
    info = msgspec.structs.replace(
        INFO,
        stint=ID,
        continues=False,
        ephemeral=True,
        losses=(Loss("a1", "2.0.sqlite3", "it is damaged", 5, None),),
    )
    document = json.loads(json.dumps(info_to_json(info)))
    assert info_from_json(document) == info
    for name in NEWER:
        del document[name]
    assert info_from_json(document) == INFO


def test_rules_come_from_newer_slaves_alone() -> None:
    document = info_to_json(
        msgspec.structs.replace(INFO, rules={"linear": '{"without":["/webhookId"]}'})
    )
    assert info_from_json(document).rules == {"linear": '{"without":["/webhookId"]}'}
    del document["rules"]
    assert info_from_json(document).rules is None


@pytest.mark.parametrize("member", sorted(set(info_to_json(INFO)) - NEWER))
def test_a_missing_member(member: str) -> None:
    document = info_to_json(INFO)
    del document[member]
    with pytest.raises(ValueError, match=f"^{member}: missing$"):
        info_from_json(document)


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("store", [None, 1, "", "alpha", UUID.upper(), UUID + "\n"]),
        ("generation", [None, True, -1, 2**53, 1.0, "1", 10**5000, [], {}]),
        ("first", [False, -1, 2**53, 1.5, "1", []]),
        ("horizon", [None, True, -1, 2**53, 1.0, "1"]),
        ("now", [None, True, -1, 2**53, 1.0, "1"]),
        ("span", [None, True, -1, 2**53, 1.0, "1"]),
        ("hash", [None, 1, "", "x" * 65, "crc\n", "ﬁ", ["crc32c"]]),
        ("encodings", [None, "application/json", {}, [], [1], [""], ["x" * 65], ["a"] * 17]),
    ],
)
def test_an_invalid_member(member: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{member}(\[\d\])?: must be ") as failed:
            info_from_json(info_to_json(INFO) | {member: value})
        assert len(str(failed.value)) < 250


@pytest.mark.parametrize("document", [None, [], "text", 1, [["store", UUID]]])
def test_invalid_documents(document: object) -> None:
    with pytest.raises(ValueError, match=r"^must be object"):
        info_from_json(document)
