"""What load tests send: schedules, webhooks and signatures."""

from __future__ import annotations

import pytest

from loadtests.ledger import digest_value
from loadtests.scenarios import SCENARIOS, schedule
from loadtests.signing import make_signers
from loadtests.webhooks import LARGE_BYTES, Webhooks
from portable_core.sources.signatures import parse_sources


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_schedule_takes_as_long_as_the_rate_says(name: str) -> None:
    times = list(schedule(SCENARIOS[name], 12_000, 100))
    assert times == sorted(times)
    assert len(times) == 12_000
    assert times[-1] == pytest.approx(120, rel=0.15)


def test_a_webhook_has_one_value_in_all_its_spellings() -> None:
    webhooks = Webhooks(1, large=0.3)
    bodies = {webhooks.spell(7, spelling) for spelling in range(4)}
    assert len({digest_value(body) for body in bodies}) == 1
    assert len({digest_value(webhooks.spell(number, 0)) for number in range(200)}) == 200
    assert Webhooks(1, large=0.3).spell(7, 2) == webhooks.spell(7, 2)
    large = [n for n in range(200) if len(webhooks.spell(n, 0)) >= LARGE_BYTES[0]]
    assert 20 <= len(large) <= 100


def test_signatures_are_those_that_a_node_admits() -> None:
    text = (
        "github=github:s3cret,stripe=stripe:whsec_x,std=standard:whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=,"
        "other=hmac-sha256@X-Signature:s3cret"
    )
    sources = parse_sources(text)
    signers = make_signers(text)
    assert sorted(signers) == ["github", "other", "std", "stripe"]
    for source, sign in signers.items():
        headers = {name.lower(): value for name, value in sign("id-1", 1_000, b"{}").items()}

        def read(name: str, headers: dict[str, str] = headers) -> list[str]:
            return [headers[name.lower()]] if name.lower() in headers else []

        sources.verify(source, read, b"{}", 1_000_000)
