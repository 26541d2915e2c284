"""Names in the environment that look like names of settings: misspelt, related, or injected.

A misspelt name stops a node, because its setting would silently have no effect. Platforms put many
variables into the environment; none of them may stop a node.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

#: A name that is this long may differ in two letters, a shorter one in one.
_LONG = 8

#: Variables that Kubernetes and links of Docker set for a service, whatever its name is.
_SERVICE = re.compile(
    r".+_SERVICE_(HOST|PORT)(_.+)?|.+_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)

#: A value of such a variable: the address of a service.
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*", re.DOTALL)

#: Variables of other programs that are one or two letters from a setting.
_FOREIGN = {
    "ACT",  # the runner of GitHub's actions on one's own machine
    "BASH",
    "FIRESTORE_EMULATOR_HOST",  # read by Firestore's client
    "NODE_HOME",  # Node.js
    "POD_NAME",  # the usual name in manifests of Kubernetes
}

#: Settings that only platforms set.
_PLATFORM = {"K_SERVICE"}

#: First words of settings that variables of other programs begin with too.
_COMMON_WORDS = {
    "ALLOW",
    "COMMIT",
    "GOOGLE",
    "HOST",
    "K",
    "KEEP",
    "MAX",
    "NODE",
    "OTHER",
    "PORT",
    "PROVIDER",
}


def find_misspelt(names: Iterable[str], known: Collection[str]) -> Mapping[str, str]:
    """Return the names that are a misspelt known name, with that name.

    A misspelt name is one letter from a known name, or two where that has eight letters or more
    (a letter added, left out or replaced, or two neighbours swapped), or differs in upper and lower
    case alone.
    """
    found = {}
    for name in names:
        if name in known or _is_foreign(name):
            continue
        nearest = min(
            (
                (distance, one)
                for one in known
                if one not in _PLATFORM
                and (distance := _find_distance(name, one)) <= (2 if len(one) >= _LONG else 1)
            ),
            default=None,
        )
        if nearest is not None:
            found[name] = nearest[1]
    return found


def find_related(names: Iterable[str], known: Collection[str]) -> Iterable[str]:
    """Return the names that are unknown and begin with the first word of a known one."""
    words = {one.partition("_")[0] for one in known} - _COMMON_WORDS
    for name in names:
        word, more, _ = name.partition("_")
        if more and word in words and name not in known and not _is_foreign(name):
            yield name


def is_service_address(name: str, value: str) -> bool:
    """Return whether Kubernetes has set a port to the address of a service."""
    return name.endswith("PORT") and _SERVICE_ADDRESS.fullmatch(value) is not None


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or _SERVICE.fullmatch(name) is not None


def _find_distance(name: str, known: str) -> int:
    """Return the number of edits between two names (Damerau-Levenshtein, adjacent transpositions).

    A number above 2 is a lower bound.
    """
    if name.upper() == known:
        return 0
    if abs(len(name) - len(known)) > 2 or len(set(name) ^ set(known)) > 4:
        return 3
    before, row = [], list(range(len(known) + 1))
    for i, letter in enumerate(name, 1):
        before, last, row = row, before, [i]
        for j, other in enumerate(known, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == known[j - 2] and name[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
