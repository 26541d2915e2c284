"""Which headers and query parameters of a webhook are kept with its payload.

Kept are the headers that ``KEEP_HEADERS`` names, the event headers, and those that the row of the
source names as identity, event or id. Never kept are headers that are secrets by themselves: a
reader of stored webhooks could send webhooks, or call other services, with them. A wildcard never
brings them back, and neither does their name in ``KEEP_HEADERS``; ``KEEP_CREDENTIAL_HEADERS`` does.
The query string is kept as it was sent, less the parameters that the row of the source calls
secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import unquote_plus

from portable_core.payload_hash.identity import EVENT_HEADERS
from portable_core.sources.rows import SourceRow

#: What consumers need to verify, to route and to recognise a webhook: signatures, delivery ids,
#: attempt counters. ``*`` at the end of a name stands for any rest.
DEFAULT_KEPT = (
    "content-type",
    "content-encoding",
    "user-agent",
    "idempotency-key",
    "request-id",
    "webhook-*",
    "svix-*",
    "ce-*",
    "aeg-*",
    "linear-*",
    "paypal-*",
    "sentry-hook-*",
    "square-*",
    "twitch-eventsub-*",
    "calendly-webhook-signature",
    "hmacsignature",
    "i-twilio-idempotency-token",
    "paddle-signature",
    "stripe-signature",
    "typeform-signature",
    "workos-signature",
    "x-airtable-content-mac",
    "x-amz-sns-*",
    "x-atlassian-webhook-*",
    "x-attempt-number",
    "x-docusign-signature-*",
    "x-dropbox-signature",
    "x-event-key",
    "x-forgejo-*",
    "x-gitea-*",
    "x-github-*",
    "x-gitlab-*",
    "x-goog-*",
    "x-grafana-alerting-*",
    "x-hook-signature",
    "x-hook-uuid",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-hubspot-*",
    "x-line-signature",
    "x-mandrill-signature",
    "x-notion-signature",
    "x-npm-signature",
    "x-pagerduty-signature",
    "x-razorpay-signature",
    "x-request-uuid",
    "x-shopify-*",
    "x-signature-ed25519",
    "x-signature-timestamp",
    "x-slack-*",
    "x-square-*",
    "x-trello-webhook",
    "x-twilio-*",
    "x-twitter-webhooks-signature",
    "x-wc-webhook-*",
    "x-zendesk-webhook-*",
    "x-zm-*",
)

#: Headers that are secrets by themselves.
NEVER_KEPT = (
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-github-encoded-secret",
    "x-gitlab-token",
    "x-goog-channel-token",
    "x-goog-iap-jwt-assertion",
    "x-serverless-authorization",
    "x-telegram-bot-api-secret-token",
)

#: Longer names are not remembered, so that no sender fills the memory with them.
_MOST_REMEMBERED = 128

#: Decides whether a header is kept, by its name in lower case.
IsKept = Callable[[str], bool]


def choose_kept(
    keep: Iterable[str],
    *,
    read: Iterable[str] = (),
    secret: Iterable[str] = (),
    override: Iterable[str] = (),
) -> IsKept:
    """Return the decision for one source.

    ``keep`` are names and beginnings of names; ``read`` the headers that the row reads,
    ``secret`` those that a static token is read from, ``override`` those that are kept although
    they are secrets. All names are lower case.
    """
    names = list(keep)
    exact = frozenset({*(n for n in names if not n.endswith("*")), *EVENT_HEADERS, *read})
    beginnings = tuple(n[:-1] for n in names if n.endswith("*"))
    kept_anyway = frozenset(override)
    never = frozenset({*NEVER_KEPT, *secret}) - kept_anyway

    def decide(name: str) -> bool:
        if name in never:
            return False
        return name in exact or name in kept_anyway or name.startswith(beginnings)

    remember = lru_cache(maxsize=1024)(decide)  # a source's webhooks have mostly the same headers

    def is_kept(name: str) -> bool:
        return remember(name) if len(name) <= _MOST_REMEMBERED else decide(name)

    return is_kept


def strip_query(query: str, secret: Iterable[str]) -> str:
    """Return a query string without the parameters of these names."""
    names = frozenset(secret)
    if not names or not query:
        return query
    return "&".join(
        part
        for part in query.split("&")
        if unquote_plus(part.partition("=")[0], "latin-1") not in names
    )


def _list_read(row: SourceRow) -> Iterator[str]:
    """Yield the headers that are read from stored webhooks of a source."""
    yield from row.rule.headers
    yield from (value.name.lower() for value in (*row.event, *row.id) if value.place == "header")
    if row.compressed:
        yield "content-encoding"


class KeptParts:
    """What of a request's head is kept, by source."""

    def __init__(
        self, keep: Iterable[str], override: Iterable[str], rows: Mapping[str, SourceRow]
    ) -> None:
        """``keep`` and ``override`` are the values of the settings, ``rows`` those of sources."""
        self._rows = rows
        names, anyway = tuple(keep), tuple(override)
        self._default = choose_kept(names, override=anyway)
        self._by_source = {
            source: choose_kept(
                names,
                read=_list_read(row),
                secret=row.secret_headers,
                override=anyway,
            )
            for source, row in rows.items()
        }

    def headers(self, source: str) -> IsKept:
        """Return what decides whether a header of this source is kept."""
        return self._by_source.get(source, self._default)

    def query(self, source: str, query: str) -> str:
        """Return what of the query string is kept."""
        row = self._rows.get(source)
        return query if row is None else strip_query(query, row.secret_parameters)
