"""Dead letters: the webhooks that ``forward`` could not deliver, listed, retried and dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from portable_core.errors import NotFound
from portable_core.records import Record
from portable_core.webhooks.delivery_request import Outcome
from portable_core.webhooks.delivery_values import Attempt
from portable_core.webhooks.feed_webhook import Webhook
from portable_core.webhooks.forward import Send, Target


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter; ``died`` is the time in ms of the last request."""

    id: str
    event: str
    attempts: int
    status: int
    reason: str
    died: int
    record: Record


class DeadLetterStore(Protocol):
    """Where ``forward`` keeps them. Methods raise ``Unavailable``."""

    @property
    def dead_letters(self) -> int: ...

    def list_dead_letters(self, ids: Iterable[str] | None = None) -> Iterator[StoredDeadLetter]:
        """Yield all dead letters, oldest webhook first, or those with these ids.

        Raises ``NotFound`` for an unknown id.
        """
        ...

    def note_failure(self, id: str, attempts: int, outcome: Outcome) -> None:
        """Note another failed request."""
        ...

    def drop_dead_letter(self, id: str) -> bool:
        """Remove a dead letter; return whether it was there."""
        ...


def retry_dead_letter(store: DeadLetterStore, send: Send, letter: StoredDeadLetter) -> Outcome:
    """Send a dead letter once; remove it if it is delivered, otherwise note the outcome."""
    attempt = letter.attempts + 1
    outcome = send(Attempt(0, _to_webhook(letter), attempt))
    if outcome.ok:
        store.drop_dead_letter(letter.id)
    else:
        store.note_failure(letter.id, attempt, outcome)
    return outcome


def _to_webhook(letter: StoredDeadLetter) -> Webhook:
    meta = letter.record.meta
    return Webhook(
        position="",
        id=letter.id,
        key=meta.key,
        source=meta.source,
        event=letter.event,
        timestamp=letter.record.pair.timestamp,
        headers=meta.headers,
        query=meta.query,
        payload=letter.record.payload,
    )


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter without its payload, of ``size`` bytes."""

    id: str
    source: str
    event: str
    attempts: int
    outcome: Outcome
    died: int
    size: int


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of the ``forward`` beside a master.

    ``open_store`` returns None as long as there is no state; ``target`` is the receiver.
    """

    open_store: Callable[[], AbstractContextManager[DeadLetterStore] | None]
    target: Target

    def count(self) -> int:
        """Return the number of dead letters."""
        return self.list_rows(0)[0]

    def list_rows(self, most: int) -> tuple[int, list[DeadLetterRow]]:
        """Return the number of dead letters, and the first ones."""
        opened = self.open_store()
        if opened is None:
            return 0, []
        with opened as store:
            rows = [
                DeadLetterRow(
                    letter.id,
                    letter.record.meta.source,
                    letter.event,
                    letter.attempts,
                    Outcome(letter.status, letter.reason),
                    letter.died,
                    len(letter.record.payload),
                )
                for letter in islice(store.list_dead_letters(), most)
            ]
            return store.dead_letters, rows

    def retry(self, id: str) -> None:
        """Send a dead letter once; do nothing if it is gone."""
        opened = self.open_store()
        if opened is None:
            return
        with opened as store:
            try:
                (letter,) = store.list_dead_letters([id])
            except NotFound:
                return
            with self.target() as send:
                retry_dead_letter(store, send, letter)

    def drop_webhook(self, id: str, key: str) -> int:
        """Remove the dead letters of a webhook, by its id or its key; return their number."""
        opened = self.open_store()
        if opened is None:
            return 0
        with opened as store:
            ids = [
                letter.id
                for letter in store.list_dead_letters()
                if letter.id == id or (key and letter.record.meta.key == key)
            ]
            return sum(store.drop_dead_letter(each) for each in ids)

    def drop(self, id: str) -> None:
        """Remove a dead letter; do nothing if it is gone."""
        opened = self.open_store()
        if opened is not None:
            with opened as store:
                store.drop_dead_letter(id)
