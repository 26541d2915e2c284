"""The lease: one document in ``leases``, whose number is the token.

The lease relies on four guarantees, which the service and every emulator give:

1. Only one writer can create a document (precondition ``exists = false``).
2. An update or deletion with the precondition ``exists = true`` is rejected if the document does
   not exist.
3. A rejected commit writes nothing.
4. A query sees everything that was committed before it.

It relies on no transaction.

To acquire the lease, a commit deletes document N, provided that it exists, and creates document
N + 1. Of several concurrent attempts, only one can delete document N. To release the lease is to
acquire it without a holder.

Each write under a lease is a commit that begins with an update of the lease's document, provided
that it exists. So the service itself rejects a write under an older token, however late the write
arrives, and no clock is involved. The clock of the service alone decides when a lease has expired:
when its document was changed longer ago than the lease was to last. So an instance whose clock is
wrong neither holds a lease longer than others nor acquires one early.
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
    """Acquire the lease if it is free or expired. Raise ``LeaseHeld``."""
    held, _ = _read_lease(database)
    if held.holder and not _has_expired(database, held, ttl):
        raise LeaseHeld(f"{held.holder} is syncing. Try again when that sync has ended.")
    lease = Lease(held.token + 1, holder, now + ttl)
    if not _replace_lease(database, held, lease, ttl):
        raise LeaseHeld("another sync began at the same time. Try again when that sync has ended.")
    return lease


def _has_expired(database: Database, held: Lease, ttl: Milliseconds) -> bool:
    """Return whether a lease has lasted longer than it was to last, by the clock of Firestore."""
    name = _locate_lease(database, held.token)
    found, read_at = database.get([name])
    if name not in found:
        return False  # another instance has just replaced it
    document = found[name]
    lasts = document.fields["ttl"].integer_value if "ttl" in document.fields else ttl
    changed = document.update_time
    age = read_at - (changed.seconds * 1_000_000_000 + changed.nanos)
    return bool(age > lasts * 1_000_000)


def renew_lease(database: Database, lease: Lease, now: Milliseconds, ttl: Milliseconds) -> Lease:
    """Extend the lease. Raise ``LeaseLost``."""
    renewed = Lease(lease.token, lease.holder, now + ttl)
    write = make_fence(database, lease)
    write.update.fields["expires"].integer_value = renewed.expires
    write.update.fields["ttl"].integer_value = ttl
    write.update_mask.field_paths.extend(["expires", "ttl"])
    commit_fenced(database, lease, [write])
    return renewed


def release_lease(database: Database, lease: Lease) -> None:
    _replace_lease(database, lease, Lease(lease.token + 1, "", 0))


def make_fence(database: Database, lease: Lease) -> Any:
    """Return a write that makes its commit fail once ``lease`` is lost or released."""
    write = write_document(_locate_lease(database, lease.token), {"fenced": lease.token})
    write.update_mask.field_paths.append("fenced")
    write.current_document.exists = True
    return write


def commit_fenced(database: Database, lease: Lease, writes: Sequence[Any]) -> None:
    """Commit ``writes``, the first of which is a fence. Raise ``LeaseLost``."""
    try:
        database.commit(writes)
    except CommitRejected as error:
        raise explain_rejection(database, lease, error) from error


def explain_rejection(database: Database, lease: Lease, error: CommitRejected) -> WebhookSyncError:
    """Return the error to raise for a rejected commit: ``LeaseLost`` if a newer lease exists."""
    if _read_lease(database)[0].token == lease.token:
        return StoreError(str(error))
    return LeaseLost("this sync lost its lease to a newer one; nothing was written")


def _replace_lease(database: Database, old: Lease, new: Lease, ttl: Milliseconds = 0) -> bool:
    """Replace ``old`` by ``new``; return whether this call did so."""
    delete = delete_document(_locate_lease(database, old.token))
    delete.current_document.exists = True
    nonce = uuid.uuid4().hex
    try:
        database.commit([delete, write_lease(database, new, nonce, ttl)])
    except CommitRejected:
        # Either another caller replaced the lease, or the first attempt of this call did and its
        # response was lost. The nonce shows which.
        return _read_lease(database)[1] == nonce
    return True


def write_lease(database: Database, lease: Lease, nonce: str, ttl: Milliseconds = 0) -> Any:
    write = write_document(
        _locate_lease(database, lease.token),
        {
            "key": f"{lease.token:014x}",
            "token": lease.token,
            "holder": lease.holder,
            "expires": lease.expires,
            "ttl": ttl,
            "nonce": nonce,
        },
    )
    write.current_document.exists = False
    return write


def _read_lease(database: Database) -> tuple[Lease, str]:
    documents = database.read_page(RangeQuery(_LEASES, "key", descending=True), None, 1)
    if not documents:
        raise StoreDamaged(f"{database.path} contains no lease: its collection leases is empty")
    fields = documents[0].fields
    lease = Lease(
        fields["token"].integer_value,
        fields["holder"].string_value,
        fields["expires"].integer_value,
    )
    return lease, fields["nonce"].string_value


def _locate_lease(database: Database, token: int) -> str:
    return database.name(_LEASES, f"{token:014x}")
