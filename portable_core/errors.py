"""The errors of webhook-sync: one root; each class has the HTTP status of its response.

::

    WebhookSyncError
    ├── BadRequest                  400  the request is invalid
    │   ├── MalformedPayload        400  a body that is not a JSON object
    │   │   └── PayloadTooComplex   413  nested deeper, or more values, than the limits allow
    │   └── MalformedStream         400  pairs or records that break the format or the order
    │       └── StreamTooLarge      413  an element or a window exceeds a named limit
    ├── StreamCut                   400  a stream ended without its closing mark
    ├── Unauthorized                401  missing or wrong credentials or signature
    ├── Forbidden                   403  valid credentials without access to this
    ├── NotFound                    404  no such slave, webhook or path
    ├── Conflict                    409  the nodes disagree about span, hash or clock
    │   ├── LeaseHeld               409  another sync of this master is running
    │   └── PositionUnknown         409  this store did not give out this position of the feed
    ├── PayloadTooLarge             413  more bytes than MAX_BODY_BYTES
    ├── UnsupportedEncoding         415  an unsupported media type or content coding
    ├── HeadersTooLarge             431  the headers to store are too large for a record
    ├── TooManySyncs                429  this slave has MAX_SYNCS syncs under way
    ├── TooManyWebhooks             429  a source sends more webhooks a second than its limit
    ├── TooManyConsumers            429  too many requests wait for the arrival feed
    ├── SettingsError               500  an invalid or missing setting; ends the start
    ├── SlaveError                  502  a slave could not be synced; the message has why
    │   ├── SlaveUnreachable        502  no connection, or a timeout
    │   │   └── LogUnreachable      502  the same for a provider's delivery log
    │   ├── SlaveRefused            502  it answered with another status than 200
    │   │   └── LogRefused          502  the same for a provider's delivery log
    │   ├── AnswerInvalid           502  its response breaks the protocol
    │   └── QuarantineFull          502  it has an invalid record, and no more can be set aside
    ├── HandOverFailed              502  the master rejected the records of a stopping slave
    ├── Unavailable                 503  temporary: retry later
    │   ├── BufferFull              503  too many webhooks wait for the store
    │   ├── Stopping                503  the node is stopping
    │   └── StoreError              503  the store cannot be read or written
    │       ├── StoreLocked         503  another process is the writer of this store
    │       ├── StoreDamaged        503  the store's files are damaged
    │       ├── StoreFull           503  the store's disk is full
    │       ├── RecordRefused       503  the store can never store this one record
    │       └── BatchTooLate        503  a batch was not committed within COMMIT_TIMEOUT_S
    └── LeaseLost                   503  a newer lease exists; nothing was written

A message is what is wrong and, where it is not obvious, what to do. Responses carry the message as
``detail`` of an ``application/problem+json`` document (RFC 9457, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

#: Values of ``WWW-Authenticate`` (RFC 6750, section 3): without credentials, after wrong ones.
CHALLENGE = 'Bearer realm="webhook-sync"'
CHALLENGE_AFTER_WRONG = f'{CHALLENGE}, error="invalid_token"'


class WebhookSyncError(Exception):
    """The root. ``status`` is the HTTP status of the response, ``title`` its short name."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    #: Seconds to wait before a retry; sent as ``Retry-After`` (RFC 9110, section 10.2.3).
    retry_after: int | None = None

    @property
    def members(self) -> Mapping[str, object]:
        """Return extension members of the problem document (RFC 9457, section 3.2)."""
        return {}


class BadRequest(WebhookSyncError):
    status = 400
    title = "Bad request"


class MalformedPayload(BadRequest):
    """A body that is not one well-formed JSON object (RFC 8259).

    ``offset`` is the position of the fault in bytes from the start; None if it is unknown.
    """

    title = "Malformed payload"

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset

    @property
    def members(self) -> Mapping[str, object]:
        return {} if self.offset is None else {"offset": self.offset}


class PayloadTooComplex(MalformedPayload):
    """A payload with more levels or values than the documented limits; nothing was parsed."""

    status = 413
    title = "Payload too complex"


class MalformedStream(BadRequest):
    """A stream of pairs or records breaks its format or its order.

    ``element`` is the index, from 0, of the pair or record at fault.
    """

    title = "Malformed stream"

    def __init__(self, message: str, element: int | None = None) -> None:
        super().__init__(message if element is None else f"element {element}: {message}")
        self.element = element

    @property
    def members(self) -> Mapping[str, object]:
        return {} if self.element is None else {"element": self.element}


class StreamTooLarge(MalformedStream):
    """An element is too large, or too many pairs lie within one span, for a named limit."""

    status = 413
    title = "Stream too large"


class StreamCut(WebhookSyncError):
    """A stream ended without its closing mark: a record absent from the stream may still exist."""

    status = 400
    title = "Stream cut"


class Unauthorized(WebhookSyncError):
    """Missing or wrong credentials, or a signature that does not match.

    ``challenge`` is the ``WWW-Authenticate`` of the response (RFC 9110, section 11.6.1).
    """

    status = 401
    title = "Unauthorized"

    def __init__(self, message: str, challenge: str = CHALLENGE) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(WebhookSyncError):
    status = 403
    title = "Forbidden"


class NotFound(WebhookSyncError):
    status = 404
    title = "Not found"


class Conflict(WebhookSyncError):
    status = 409
    title = "Conflict"


class LeaseHeld(Conflict):
    """Another sync of this master holds the lease."""

    title = "Sync already running"
    retry_after = 1


class PositionUnknown(Conflict):
    """A position of the arrival feed that this store did not give out.

    ``resume`` is a position from which nothing is skipped; records may be repeated.
    """

    title = "Position unknown"

    def __init__(self, message: str, resume: str) -> None:
        super().__init__(message)
        self.resume = resume

    @property
    def members(self) -> Mapping[str, object]:
        return {"resume": self.resume}


class PayloadTooLarge(WebhookSyncError):
    status = 413
    title = "Payload too large"


class UnsupportedEncoding(WebhookSyncError):
    status = 415
    title = "Unsupported encoding"


class HeadersTooLarge(WebhookSyncError):
    status = 431
    title = "Request header fields too large"


class TooManySyncs(WebhookSyncError):
    status = 429
    title = "Too many syncs"
    retry_after = 5


class TooManyWebhooks(WebhookSyncError):
    status = 429
    title = "Too many webhooks"
    retry_after = 1


class TooManyConsumers(WebhookSyncError):
    status = 429
    title = "Too many consumers"
    retry_after = 5


class SettingsError(WebhookSyncError):
    """An invalid or missing setting. The message is one line that begins with the name."""

    title = "Invalid setting"


class SlaveError(WebhookSyncError):
    status = 502
    title = "Slave not synced"


class SlaveUnreachable(SlaveError):
    title = "Slave unreachable"


class SlaveRefused(SlaveError):
    """The slave answered with a status other than 200.

    ``answered`` is that status; after 415 the master tries its other encoding. ``retry_after`` is
    the delay that the slave asked for, in seconds.
    """

    title = "Slave refused"

    def __init__(self, message: str, answered: int, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.answered = answered
        self.retry_after = retry_after


class LogUnreachable(SlaveUnreachable):
    title = "Delivery log unreachable"


class LogRefused(SlaveRefused):
    title = "Delivery log refused"


class AnswerInvalid(SlaveError):
    title = "Invalid response"


class ClocksDiffer(SlaveError):
    """The timestamps of the slave and the master differ by more than half the span."""

    title = "Clocks differ"


class QuarantineFull(SlaveError):
    """An invalid record of the slave cannot be set aside, because the quarantine is full."""

    title = "Quarantine full"


class HandOverFailed(WebhookSyncError):
    status = 502
    title = "Hand-over failed"

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(WebhookSyncError):
    status = 503
    title = "Unavailable"
    retry_after = 1


class BufferFull(Unavailable):
    title = "Buffer full"


class Stopping(Unavailable):
    title = "Stopping"
    retry_after = 5


class StoreError(Unavailable):
    title = "Store unavailable"
    retry_after = 5


class StoreLocked(StoreError):
    title = "Store locked"


class StoreDamaged(StoreError):
    title = "Store damaged"


class StoreFull(StoreError):
    """The store works, but has no space for records. No record of a failed append can appear."""

    title = "Store full"


class RecordRefused(StoreError):
    """The store works, but can never store one of the records."""

    title = "Record refused"


class BatchTooLate(StoreError):
    """A batch was not committed within ``COMMIT_TIMEOUT_S`` of its first timestamp."""

    title = "Batch too late"


class LeaseLost(WebhookSyncError):
    """A newer lease exists; the store rejected the write under the old one."""

    status = 503
    title = "Lease lost"
