"""What a delivery exchanges with its driver: webhooks, attempts, decisions, changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from portable_core.webhooks.delivery_request import Outcome


class Item(Protocol):
    """A webhook of the feed."""

    @property
    def position(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Item)


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """A request to send: the webhook, and the number of the request from 1."""

    number: int
    item: T
    attempt: int


@dataclass(frozen=True, slots=True)
class DeadLetter(Generic[T]):
    """A webhook that is no longer sent, and the last outcome."""

    item: T
    attempts: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an outcome: ``dead`` is a dead letter; ``retry`` is after ``delay_s``."""

    kind: Literal["delivered", "retry", "dead", "stop"]
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Changes(Generic[T]):
    """What is to be written in one transaction.

    - ``position``: the new position; None if it is unchanged.
    - ``done``: the ids to add to those delivered after the position.
    - ``passed``: the ids to remove, because they lie before the new position.
    - ``dead``: the dead letters to add.
    - ``keys``: the keys of the webhooks that are delivered or dead letters now.
    - ``numbers``: the webhooks whose outcome this writes.
    - ``leading``: the number of entries up to the position.
    """

    position: str | None = None
    done: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    dead: tuple[DeadLetter[T], ...] = ()
    keys: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    leading: int = 0

    def __bool__(self) -> bool:
        return self.position is not None or bool(self.numbers)
