"""The lease: one document in ``leases``, whose number is the token.

What it relies on, of the real service and of every emulator alike: a document is created by one
writer only (``exists = false``), an update or deletion that demands that its document exists is
refused when it does not, a refused commit writes nothing, and a query sees what was committed
before it. It relies on no transaction and on no document's update time.

Taking over deletes number N, on condition that it exists, and creates number N + 1: of all who try,
one deletes it. Each write under a lease carries, in the same commit and first in it, an update of
the lease's document on condition that it exists. So the service itself refuses what a stalled
master sends under an older token, however late it arrives; no clock takes part in that. (Clocks
decide only when a lease may be taken over.) Giving a lease back is taking it over for nobody.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from portable_core.adapters.firestore.client import Database
from portable_core.adapters.firestore.documents import delete_document, write_document
from portable_core.adapters.firestore.failures import CommitRejected
from portable_core.adapters.firestore.queries import RangeQuery
from portable_core.errors import LeaseHeld, LeaseLost, StoreDamaged, StoreError, WebhookSyncError
from portable_core.ports import Lease, Milliseconds

_LEASES = "leases"


def acquire_lease(database: Database, holder: str, now: Milliseconds, ttl: Milliseconds) -> Lease:
    """Raises ``LeaseHeld``."""
    held, _ = _read_lease(database)
    if now < held.expires:
        raise LeaseHeld(f"{held.holder} is syncing; try again later")
    lease = Lease(held.token + 1, holder, now + ttl)
    if not _replace_lease(database, held, lease):
        raise LeaseHeld("another sync began at the same moment; try again later")
    return lease


def renew_lease(database: Database, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
    """Raises ``LeaseLost``."""
    renewed = Lease(lease.token, lease.holder, now + ttl)
    write = make_fence(database, lease)
    write.update.fields["expires"].integer_value = renewed.expires
    write.update_mask.field_paths.append("expires")
    commit_fenced(database, lease, [write])
    return renewed


def release_lease(database: Database, lease: Lease) -> None:
    _replace_lease(database, lease, Lease(lease.token + 1, "", 0))


def make_fence(database: Database, lease: Lease) -> Any:
    """The write that makes a commit fail once ``lease`` was taken over or given back."""
    write = write_document(_locate_lease(database, lease.token), {"fenced": lease.token})
    write.update_mask.field_paths.append("fenced")
    write.current_document.exists = True
    return write


def commit_fenced(database: Database, lease: Lease, writes: Sequence[Any]) -> None:
    """Commit ``writes``, the first of which is a fence. Raises ``LeaseLost``."""
    try:
        database.commit(writes)
    except CommitRejected as error:
        raise explain_rejection(database, lease, error) from error


def explain_rejection(database: Database, lease: Lease, error: CommitRejected) -> WebhookSyncError:
    """What a refused commit under a lease means: ``LeaseLost`` where there is a newer lease."""
    if _read_lease(database)[0].token == lease.token:
        return StoreError(str(error))
    return LeaseLost("this sync lost its lease to a newer one; nothing was written")


def _replace_lease(database: Database, old: Lease, new: Lease) -> bool:
    """Whether ``new`` is now there in the place of ``old``, and by this call."""
    delete = delete_document(_locate_lease(database, old.token))
    delete.current_document.exists = True
    nonce = uuid.uuid4().hex
    try:
        database.commit([delete, write_lease(database, new, nonce)])
    except CommitRejected:
        # It was taken by another, or by this call's first attempt, whose answer was lost.
        return _read_lease(database)[1] == nonce
    return True


def write_lease(database: Database, lease: Lease, nonce: str) -> Any:
    write = write_document(
        _locate_lease(database, lease.token),
        {
            "key": f"{lease.token:014x}",
            "token": lease.token,
            "holder": lease.holder,
            "expires": lease.expires,
            "nonce": nonce,
        },
    )
    write.current_document.exists = False
    return write


def _read_lease(database: Database) -> tuple[Lease, str]:
    documents = database.read_page(RangeQuery(_LEASES, "key", descending=True), None, 1)
    if not documents:
        raise StoreDamaged(f"{database.path} holds no lease: its collection leases is empty")
    fields = documents[0].fields
    lease = Lease(
        fields["token"].integer_value,
        fields["holder"].string_value,
        fields["expires"].integer_value,
    )
    return lease, fields["nonce"].string_value


def _locate_lease(database: Database, token: int) -> str:
    return database.name(_LEASES, f"{token:014x}")
