"""Errors of the Firestore client: which ones may be temporary, and their translation."""

from __future__ import annotations

import grpc
from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError

from portable_core.errors import StoreError

#: Errors that may be temporary. Every request that is sent again is idempotent (see ``commit``).
TRANSIENT = (
    google.Aborted,
    google.DeadlineExceeded,
    google.InternalServerError,
    google.ResourceExhausted,
    google.ServiceUnavailable,
    google.Unknown,
)
#: Every other error of the client: its own, those of its credentials, and those of its channel
#: (ValueError once that is closed).
CLIENT_ERRORS = (google.GoogleAPIError, GoogleAuthError, grpc.RpcError, ValueError)
REJECTIONS = (google.NotFound, google.AlreadyExists, google.FailedPrecondition)

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        google.NotFound,
        "Create a database of that name in Native mode (gcloud firestore databases create).",
    ),
    (google.PermissionDenied, "Grant this service's account the role roles/datastore.user."),
    (google.Unauthenticated, "Give this service an account, or run gcloud auth login."),
    (
        google.FailedPrecondition,
        "Use a database in Native mode, and deploy firestore.indexes.json.",
    ),
    (google.ResourceExhausted, "A quota is used up. See the database's usage page."),
    (google.DeadlineExceeded, "Firestore did not respond in time. Try again."),
    (google.ServiceUnavailable, "Firestore cannot be reached. Try again."),
)


class CommitRejected(StoreError):
    """A precondition of a commit does not hold; nothing was written."""


def translate_error(error: Exception) -> StoreError:
    """Return the ``StoreError`` for an error of the client, with advice."""
    cause = error.cause if isinstance(error, google.RetryError) and error.cause else error
    advice = next((text for kind, text in _ADVICE if isinstance(cause, kind)), "")
    text = shorten_error(cause)
    return StoreError(
        f"Firestore: {text.rstrip('.')}. {advice}" if advice else f"Firestore: {text}"
    )


def shorten_error(error: Exception) -> str:
    """Return an error's name and the beginning of its text, on one line."""
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return f"{type(error).__name__}: {text[:300]}"
