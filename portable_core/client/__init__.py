"""A consumer of a master's arrival feed, in Python.

::

    from portable_core.client import follow

    for webhook in follow("https://master.example", token, store="position"):
        handle(webhook.data)

Each webhook comes at least once, in the order of the feed. The position is saved once the body of
the loop has ended: a consumer that is killed gets the webhook in progress again. Its ``key`` is the
same then; ``docs/consume.md`` shows how an effect happens once.
"""

from portable_core.client.consumer import ConsumerPosition
from portable_core.client.following import follow
from portable_core.client.master import FeedRejected, FeedUnavailable
from portable_core.client.position import FilePosition, PositionStore
from portable_core.webhooks.feed_webhook import Webhook

__all__ = [
    "ConsumerPosition",
    "FeedRejected",
    "FeedUnavailable",
    "FilePosition",
    "PositionStore",
    "Webhook",
    "follow",
]
