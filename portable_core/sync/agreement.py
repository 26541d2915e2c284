"""Whether a master and a slave agree on everything that a sync needs, clocks aside."""

from __future__ import annotations

from portable_core.errors import AnswerInvalid
from portable_core.ingest.identifier import Identifier
from portable_core.ports import SlaveInfo
from portable_core.settings import Settings
from portable_core.wire.negotiation import ENCODINGS, Encoding


def check_agreement(
    settings: Settings, algorithm: str, identifier: Identifier, info: SlaveInfo
) -> list[Encoding]:
    """Return the encodings of both. Raise ``AnswerInvalid`` if a sync cannot work.

    ``settings``, ``algorithm`` and ``identifier`` are the master's.
    """
    span = settings.span_ms
    if info.span != span:
        raise AnswerInvalid(
            f"span: the slave has {info.span} ms, the master {span} ms; set the same SPAN_S"
        )
    if info.hash != algorithm:
        raise AnswerInvalid(
            f"hash: the slave has {info.hash}, the master {algorithm}; "
            "set the same HASH and HASH_KEY"
        )
    _check_rules(identifier, info)
    encodings = [each for each in ENCODINGS.values() if each.media_type in info.encodings]
    if not encodings:
        raise AnswerInvalid(
            "encodings: the slave supports none of the master's "
            f"(got {', '.join(info.encodings)}); update both nodes"
        )
    return encodings


def _check_rules(identifier: Identifier, info: SlaveInfo) -> None:
    """Raise ``AnswerInvalid`` if the nodes identify the webhooks of a source differently."""
    if info.rules is None:
        return  # the slave hashes payloads alone; the merger recognises its records
    ours = {name: rule.text for name, rule in identifier.rules.items()}
    for source in sorted(ours.keys() | info.rules.keys()):
        mine, theirs = ours.get(source, ""), info.rules.get(source, "")
        if mine != theirs:
            raise AnswerInvalid(
                f"identity: the rules for the source {source[:64]!r} differ (the slave has "
                f"{_show_rule(theirs)}, the master {_show_rule(mine)}); set the same SOURCES "
                "and SOURCES_FILE on every node"
            )


def _show_rule(text: str) -> str:
    return text[:200] or "the default"
