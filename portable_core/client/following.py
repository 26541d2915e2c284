"""Follow a feed across responses, cuts and restarts of the master."""

from __future__ import annotations

import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Generator, Iterator

from portable_core.client.connection import FeedConnection
from portable_core.client.master import FeedRejected, FeedUnavailable, Master
from portable_core.client.position import FilePosition, PositionStore
from portable_core.webhooks.feed_webhook import Webhook

logger = logging.getLogger(__name__)

#: The delay before the first retry, and the longest one, in seconds.
BASE_S = 0.5
CAP_S = 30.0

#: The failures in a row after which a consumer ends that does not wait for webhooks.
RETRIES = 5


def find_delay(failures: int, error: FeedUnavailable) -> float:
    """Return the delay after that many failures in a row: exponential backoff with full jitter."""
    most = min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 30))
    return max(random.random() * most, error.retry_after or 0.0)  # noqa: S311  # no secret


def read_on(
    connection: FeedConnection,
    after: str | None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    once: bool = False,
    resume: bool = False,
    sleep: Callable[[float], object] = time.sleep,
    report: Callable[[str], object] = logger.warning,
) -> Iterator[Webhook | str]:
    """Yield the webhooks after a position without end, and the positions of closing lines.

    A failed or cut response is retried after the last position, with exponential backoff and full
    jitter, and reported. Ends when ``stopped`` returns true; with ``once``, at the end of the feed.
    Raises ``FeedRejected`` and ``AnswerInvalid``, with ``once`` also ``FeedUnavailable``.
    """
    position, failures = after, 0
    while not stopped():
        found = False
        try:
            for parsed in connection.read(position):
                failures = 0
                if isinstance(parsed, str):
                    position = parsed
                else:
                    position, found = parsed.position, True
                yield parsed
                if stopped():
                    return
        except FeedRejected as error:
            if not (resume and error.resume) or error.resume == position:
                raise
            report(f"{error} Continuing from there.")
            position = error.resume
            continue
        except FeedUnavailable as error:
            if stopped():
                return
            failures += 1
            if once and failures > RETRIES:
                raise
            delay = find_delay(failures, error)
            report(f"{error}. Retry in {delay:.1f} s.")
            sleep(delay)
            continue
        if once and not found:
            return


def follow(
    url: str,
    token: str = "",
    *,
    store: PositionStore | str | os.PathLike[str] | None = None,
    after: str | None = None,
    source: str | None = None,
    event: str | None = None,
    skip_repeats: bool = False,
    once: bool = False,
    resume: bool = False,
    wait_s: float = 20.0,
    stopped: Callable[[], bool] = lambda: False,
    tls: ssl.SSLContext | None = None,
) -> Generator[Webhook, None, None]:
    """Yield the webhooks of the master at ``url``, each at least once, in the order of the feed.

    - ``token``: a token of the master.
    - ``store``: where the position is kept: a path, or a :class:`.PositionStore`. A position is
      saved when the next webhook is asked for, that is, once the body of the loop has ended.
    - ``after``: the position to begin after, if ``store`` has none; None for the first webhook,
      ``now`` for the webhooks from now on.
    - ``source``, ``event``: only webhooks of this source, of this event.
    - ``skip_repeats``: leave out webhooks whose key came earlier in the feed.
    - ``once``: end at the end of the feed, in place of waiting for the next webhook.
    - ``resume``: if the master does not know the position (it is another store, or one that was
      restored from a backup), continue where nothing is skipped, with repeats.
    - ``wait_s``: how long a request waits for the next webhook.
    - ``tls``: which certificates are trusted; by default those that the system trusts.
    - ``stopped``: called between webhooks and requests; the iteration ends when it returns true.

    A master that does not respond is retried without limit, with ``once`` five times. Raises
    ``FeedRejected`` if the master rejects the token or the position, ``FeedUnavailable`` after
    those retries, ``AnswerInvalid`` if another program responds.
    """
    if store is not None and isinstance(store, str | os.PathLike):
        store = FilePosition(store)
    saved = None if store is None else store.load()
    connection = FeedConnection(
        Master(url, token, tls), source=source, event=event, wait_s=0.0 if once else wait_s
    )
    try:
        start = after if saved is None else saved
        for parsed in read_on(connection, start, stopped=stopped, once=once, resume=resume):
            if isinstance(parsed, str):
                position = parsed
            else:
                if skip_repeats and parsed.repeat:
                    continue
                position = parsed.position
                yield parsed
            if store is not None:
                store.save(position)
    finally:
        connection.close()
