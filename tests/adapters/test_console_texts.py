"""The console's texts: every error of a sync has advice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portable_core import errors
from portable_core.adapters.flask_app.console.jobs import SyncJob, SyncState
from portable_core.adapters.flask_app.console.texts import format_sentence
from portable_core.sync.advice import advise
from portable_core.sync.report import SyncReport


def list_kinds(kind: type[errors.WebhookSyncError]) -> Iterator[type[errors.WebhookSyncError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from list_kinds(below)


#: Errors of a sync; the others belong to requests, or prevent the start.
OF_A_SYNC = [
    *list_kinds(errors.SlaveError),
    *list_kinds(errors.Unavailable),
    *list_kinds(errors.Conflict),
    *list_kinds(errors.MalformedStream),
    errors.StreamCut,
    errors.UnsupportedEncoding,
    errors.LeaseLost,
    errors.WebhookSyncError,
]


#: An adapter's own errors never leave it; consumers alone send positions.
OF_A_SYNC = [
    kind
    for kind in OF_A_SYNC
    if kind.__module__ == errors.__name__ and kind is not errors.PositionUnknown
]


@pytest.mark.parametrize("kind", OF_A_SYNC, ids=lambda kind: kind.__name__)
def test_every_error_of_a_sync_has_advice(kind: type[errors.WebhookSyncError]) -> None:
    advice = advise(kind.__name__)
    assert advice.endswith((".", "?"))


def test_a_condition_is_shown_as_a_sentence() -> None:
    assert format_sentence("webhooks were refused: 7") == "Webhooks were refused: 7."
    assert [format_sentence(text) for text in ("Is it?", "Done.")] == ["Is it?", "Done."]


def test_a_failed_sync_from_the_console_has_the_advice() -> None:
    def run(progress: object) -> SyncReport:
        raise errors.StoreFull("the reason")

    job = SyncJob(run)
    job.start()
    *_, state = job.watch(lambda: False)
    assert state == SyncState(
        ok=False, problem="Store full: the reason", advice=advise("StoreFull")
    )


def test_no_error_has_no_advice() -> None:
    assert advise("") == ""
