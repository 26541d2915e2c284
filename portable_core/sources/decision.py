"""What becomes of a request to a source's address: admit, refuse, or answer a handshake.

Both servers call :func:`decide`; it does no I/O and knows neither a server nor a provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portable_core.errors import BadRequest, Unauthorized, Unavailable, WebhookSyncError
from portable_core.sources.bodies import check_body_kind
from portable_core.sources.handshakes import Answer
from portable_core.sources.request import SourceRequest
from portable_core.sources.rows import Scheme, SourceRow


@dataclass(frozen=True, slots=True)
class Admit:
    """The request is a webhook of the source."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is neither a webhook nor a handshake of the source."""

    error: WebhookSyncError


Decision = Admit | Refuse | Answer

ADMIT = Admit()


def decide(
    row: SourceRow, schemes: Sequence[Scheme], request: SourceRequest, now_ms: int
) -> Decision:
    """Return the decision about a request to a source with this row and these schemes.

    Handshakes that the provider does not sign come first, then the signature, then the handshakes
    that the provider signs. Any one scheme admits a request; without a scheme, every request is
    admitted. ``now_ms`` is the node's clock in milliseconds since the Unix epoch.
    """
    if not schemes and not row.handshakes:
        return ADMIT
    try:
        if not row.handshakes:
            check_signature(schemes, request, now_ms)
            return ADMIT
        answer = answer_handshake(row, schemes, request, signed=False)
        if answer is not None:
            return answer
        check_signature(schemes, request, now_ms)
        answer = answer_handshake(row, schemes, request, signed=True)
        if answer is not None:
            return answer
        check_body_kind(row.body, next(iter(request.headers("Content-Type")), ""))
    except WebhookSyncError as error:
        return Refuse(error)
    return ADMIT


def check_signature(schemes: Sequence[Scheme], request: SourceRequest, now_ms: int) -> None:
    """Return if one of the schemes admits the request, or there are none.

    Raises ``Unauthorized``, which names the fault; ``Unavailable`` if that depends on public keys
    that are not there.
    """
    faults: dict[str, None] = {}
    unavailable: Unavailable | None = None
    admitted = not schemes
    for scheme in schemes:  # all of them: the time must not show which one matched
        try:
            scheme.check(request, now_ms)
            admitted = True
        except Unauthorized as fault:
            faults[str(fault)] = None
        except Unavailable as fault:
            unavailable = fault
    if not admitted and unavailable is not None:
        raise unavailable
    if not admitted:
        raise Unauthorized("; ".join(faults))


def answer_handshake(
    row: SourceRow, schemes: Sequence[Scheme], request: SourceRequest, *, signed: bool
) -> Answer | None:
    """Return the response to a handshake that is signed, or is not; None for any other request.

    Raises ``BadRequest`` for an invalid handshake.
    """
    for handshake in row.handshakes:
        if handshake.columns.signed == signed and handshake.matches(request):
            if handshake.hmac_of is not None and not schemes:
                raise BadRequest("this handshake needs the secret of the source")
            return handshake.answer(request, tuple(schemes))
    return None
