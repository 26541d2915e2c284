"""Which headers of a webhook are kept with its payload.

Kept are the headers that ``KEEP_HEADERS`` names, the event headers, and those that the identity
rule of the source reads. Never kept are headers that are secrets by themselves: a reader of
stored webhooks could send webhooks, or call other services, with them. A wildcard never brings them
back, and neither does their name in ``KEEP_HEADERS``; ``KEEP_SECRET_HEADERS`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from portable_core.payload_hash.identity import EVENT_HEADERS

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
    "x-notion-signature",
    "x-npm-signature",
    "x-pagerduty-signature",
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

    ``keep`` are names and beginnings of names; ``read`` the headers that the identity rule reads,
    ``secret`` those that a static token is read from, ``override`` those that are kept although
    they are secrets. All names are lower case.
    """
    names = list(keep)
    exact = frozenset({*(n for n in names if not n.endswith("*")), *EVENT_HEADERS, *read})
    beginnings = tuple(n[:-1] for n in names if n.endswith("*"))
    kept_anyway = frozenset(override)
    never = frozenset({*NEVER_KEPT, *secret}) - kept_anyway

    @lru_cache(maxsize=1024)  # a source's webhooks have mostly the same headers
    def is_kept(name: str) -> bool:
        if name in never:
            return False
        return name in exact or name in kept_anyway or name.startswith(beginnings)

    return is_kept
