"""Errors of the Firestore client: which ones may pass, and all of them as the store's own."""

from __future__ import annotations

import grpc
from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError

from portable_core.errors import StoreError

#: What may pass by itself. Everything this store sends again is idempotent (see ``commit``).
TRANSIENT = (
    google.Aborted,
    google.DeadlineExceeded,
    google.InternalServerError,
    google.ResourceExhausted,
    google.ServiceUnavailable,
    google.Unknown,
)
#: Everything else that may come out of the client: what it raises itself, its credentials, its
#: channel (ValueError once it is closed).
CLIENT_ERRORS = (google.GoogleAPIError, GoogleAuthError, grpc.RpcError, ValueError)
REJECTIONS = (google.NotFound, google.AlreadyExists, google.FailedPrecondition)

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        google.NotFound,
        "is there a database of that name in Native mode? (gcloud firestore databases create)",
    ),
    (google.PermissionDenied, "grant this service's account the role roles/datastore.user"),
    (google.Unauthenticated, "give this service an account, or run gcloud auth login"),
    (
        google.FailedPrecondition,
        "is the database in Native mode, and is firestore.indexes.json deployed?",
    ),
    (google.ResourceExhausted, "a quota is used up; see the database's usage page"),
    (google.DeadlineExceeded, "it does not answer in time; try again"),
    (google.ServiceUnavailable, "it cannot be reached; try again"),
)


class CommitRejected(StoreError):
    """A precondition of a commit does not hold; nothing was written."""


def translate_error(error: Exception) -> StoreError:
    """An error of the client as the store's own, with what to do about it."""
    cause = error.cause if isinstance(error, google.RetryError) and error.cause else error
    advice = next((text for kind, text in _ADVICE if isinstance(cause, kind)), "")
    return StoreError(f"Firestore: {shorten_error(cause)}" + (f"; {advice}" if advice else ""))


def shorten_error(error: Exception) -> str:
    """An error's name and the beginning of its text, on one line."""
    text = " ".join(str(getattr(error, "message", "") or error).split())
    return f"{type(error).__name__}: {text[:300]}"
