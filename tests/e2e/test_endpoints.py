"""Requests to every endpoint of real nodes without, with wrong, and with right credentials.

The endpoints come from the description and from the list of the console's pages, both of which are
checked against the routes elsewhere, so the list is complete. The table of the statuses is that in
``docs/authentication.md``; ``pytest -s`` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portable_core.demo.processes import NodeProcess
from portable_core.records import Pair, format_sort_key
from portable_core.settings import Role
from portable_core.sources.schemes import sign
from tests.adapters.test_description import CONSOLE
from tests.support.nodes.sync_nodes import Nodes, put_loss, put_removed, start
from tests.support.requests.sync_requests import Headers, Login, Question, ask, list_described

DOCUMENT = Path(__file__).parents[2] / "docs" / "authentication.md"
BEGIN, END = "<!-- seen -->\n\n", "\n<!-- end of seen -->"

MASTERS, ALPHAS = "the-token-of-the-master", "the-token-of-alpha"
SECRET = "the-secret-of-a-source"
CONSOLES = ("the-token-of-the-console", "the-token-of-another-console")

HEAD = (
    "| endpoint | role | no credentials | wrong ones | right ones | `SYNC_AUTH=none` |",
    "| --- | --- | --- | --- | --- | --- |",
)

Row = tuple[str, str, str, str, str]


def bear(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True, slots=True)
class NodePair:
    """A node that requires tokens, and one of the same role with ``SYNC_AUTH=none``."""

    role: Role
    node: NodeProcess
    unguarded: NodeProcess

    def ask(
        self, question: Question, wrong: Sequence[Headers], right: Headers, bare: Question
    ) -> Row:
        """Return a row; ``bare`` is the request to the unguarded node."""
        seen = [
            [ask(self.node, question).shown],
            [ask(self.node, question, headers).shown for headers in wrong],
            [ask(self.node, question, right).shown],
            [ask(self.unguarded, bare).shown],
        ]
        first, second, third, fourth = (" or ".join(sorted(set(cells))) for cells in seen)
        return question.label, first, second, third, fourth


def keep_webhook(node: NodeProcess) -> str:
    """Post a webhook; return its id."""
    reply = ask(node, Question("", "POST", "/webhook", body=b'{"kept":true}'))
    document = json.loads(reply.body)
    return f"{document['timestamp']}-{document['hash']}"


def ask_for_sync(slave: NodeProcess, headers: Headers) -> str:
    """Make a slave know a master; return the name of that master."""
    question = Question("", "POST", "/sync?start=1&end=2", body=b"[]")
    assert ask(slave, question, headers).status == 200
    return "anonymous"


def register_consumer(master: NodeProcess, headers: Headers) -> str:
    """Register a consumer of the feed; return its name."""
    question = Question("", "PUT", "/consumers/app", {"Content-Type": "application/json"})
    assert ask(master, replace(question, body=b'{"position":"now"}'), headers).status == 200
    return "app"


def make_wrong(other: str) -> list[Headers]:
    """Return a malformed token, another scheme, and the token of another node."""
    return [bear("nonsense"), {"Authorization": "Basic YTpi"}, bear(other)]


def see_described(pair: NodePair, token: str, other: str) -> list[Row]:
    names = {"webhook": keep_webhook(pair.node)}
    bare_names = {"webhook": keep_webhook(pair.unguarded)}
    for node, its in ((pair.node, names), (pair.unguarded, bare_names)):
        if pair.role == "slave":
            its["master"] = ask_for_sync(node, bear(token))
        else:
            its["item"] = set_aside(node, bear(token))
            its["consumer"] = register_consumer(node, bear(token))
    rows = []
    for question, bare in zip(
        list_described(pair.role, names), list_described(pair.role, bare_names), strict=True
    ):
        if question.label == "POST /quarantine/{item}/release":  # another row deletes the item
            for node in (pair.node, pair.unguarded):
                set_aside(node, bear(token))
        row = pair.ask(question, make_wrong(other), bear(token), bare)
        rows.append(row)
        # The expected row, from the description alone.
        assert row[1:] == (("200",) * 4 if question.is_open else ("401", "401", "200", "200"))
    return rows


def see_signed(pair: NodePair) -> Row:
    """Return the row of a signed source, which neither a token nor ``SYNC_AUTH=none`` opens."""
    body = b'{"signed":true}'
    question = Question("POST /webhook/{source}, signed", "POST", "/webhook/signed", body=body)
    wrong = [sign("github:another", body), {"X-Hub-Signature-256": "x"}, bear(MASTERS)]
    row = pair.ask(question, wrong, sign(f"github:{SECRET}", body), question)
    assert row[1:] == ("401", "401", "200", "401")
    return row


def see_console(pair: NodePair, slave: NodeProcess) -> list[Row]:
    """Return the rows of the console; its wrong credentials are another login and a token."""
    login, other = Login(pair.node, CONSOLES[0]), Login(pair.unguarded, CONSOLES[1])
    forms = {
        "/login": {"token": CONSOLES[0]},
        "/dead-letters": {"action": "drop", "id": "1-1"},
        "/replays": {"webhook": keep_webhook(pair.node), "url": f"{slave.url}/webhook"},
    }
    kept = forms["/replays"]["webhook"]
    names = {"webhook": kept, "other": kept, "filename": "console.css"}
    names |= {"item": set_aside(pair.node, bear(ALPHAS))}
    names |= replay(pair.node, login, forms["/replays"])
    browser = {"Accept": "text/html"}
    pages = [
        Question("GET /webhooks, for a browser", "GET", "/webhooks", browser),
        Question("GET /webhooks/{webhook}, for a browser", "GET", "/webhooks/{webhook}", browser),
        Question("GET /quarantine, for a browser", "GET", "/quarantine", browser),
    ]
    for method, path in sorted(CONSOLE, key=lambda route: route[::-1]):
        label = f"{method.upper()} {path}"
        form = forms.get(path, {})
        pages.append(
            replace(login.fill(path, form), label=label)
            if method == "post"
            else Question(label, "GET", path)
        )
    rows = []
    for page in pages:
        question = replace(page, path=page.path.format_map(names))
        wrong = [other.headers, bear(MASTERS), {**other.headers, **bear(MASTERS)}]
        # The server ends a login with its logout.
        leaves = page.path == "/logout"
        right = Login(pair.node, CONSOLES[0]).headers if leaves else login.headers
        if page.label == "POST /login":
            visitor = Login(pair.node)
            denied = visitor.fill("/login", {"token": CONSOLES[1]})
            row = pair.ask(question, [], visitor.headers, question)
            row = (*row[:2], ask(pair.node, denied, visitor.headers).shown, *row[3:])
            assert row[1:] == ("403", "401", "303", "403")
        else:
            row = pair.ask(question, wrong, right, question)
            is_open = page.path in ("/login", "/console/static/{filename}")
            closed = ("200" if is_open else "303 to /login",) * 2
            assert row[1:3] == closed, row
            assert row[4] == closed[0], row
            assert row[3] in ("200", "303") or page.path == "/logout", row
        rows.append(row)
    return rows


def set_aside(master: NodeProcess, headers: Headers) -> str:
    """Put a record with an invalid hash into the quarantine; return its id."""
    record = b'[{"hash":1,"timestamp":1,"data":{}}]'
    question = Question("", "POST", "/records?slave=alpha", {"Content-Type": "application/json"})
    taken = ask(master, replace(question, body=record), headers)
    assert json.loads(taken.body)["set_aside"] == 1
    return f"alpha-{format_sort_key(Pair(1, 1))}"


def replay(master: NodeProcess, login: Login, form: dict[str, str]) -> dict[str, str]:
    """Replay a webhook, and wait for the end of the run."""
    started = ask(master, login.fill("/replays", form), login.headers)
    assert started.status == 303, started
    page = started.headers["location"]
    ask(master, Question("", "GET", f"{page}/events"), login.headers)
    return {"name": page.rpartition("/")[2]}


def merge(tables: dict[Role, list[Row]]) -> Iterable[str]:
    """Yield the rows of both roles as lines, equal rows as one."""
    for role, rows in tables.items():
        for row in rows:
            where = "both" if all(row in others for others in tables.values()) else role
            if where != "both" or role == "slave":
                label, *cells = row
                yield f"| `{label.partition(',')[0]}`{''.join(label.partition(',')[1:])} | " + (
                    " | ".join([where, *cells]) + " |"
                )


def test_every_endpoint_accepts_only_the_right_credentials(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        shared = {"SOURCES": f"signed=github:{SECRET}", "STORE": "memory:"}
        alpha = nodes.make_slave("alpha", "container", **shared, SYNC_TOKENS=ALPHAS)
        free = nodes.make_slave("free", "container", **shared, SYNC_AUTH="none")
        lasting = {
            "SOURCES": shared["SOURCES"]
        }  # losses need a store that is made before the start
        targets = {"REPLAY_TARGETS": f"{alpha.url}/"}
        master = nodes.make_master(
            {"alpha": alpha.url},
            "container",
            **(lasting | targets),
            SYNC_TOKENS=MASTERS,
            SLAVE_TOKENS=f"alpha={ALPHAS}",
            CONSOLE_TOKEN=CONSOLES[0],
        )
        free_master = nodes.make_master(
            {"free": free.url},
            "container",
            name="free-master",
            **(lasting | targets),
            SYNC_AUTH="none",
            CONSOLE_TOKEN=CONSOLES[1],
        )
        for node in (master, free_master):
            put_loss(node)
            put_removed(node)
        start(alpha, free, master, free_master)
        slaves, masters = NodePair("slave", alpha, free), NodePair("master", master, free_master)
        tables: dict[Role, list[Row]] = {
            "slave": [*see_described(slaves, ALPHAS, MASTERS), see_signed(slaves)],
            "master": [*see_described(masters, MASTERS, "another"), see_signed(masters)],
        }
        tables["master"] += see_console(masters, alpha)
        check_slaves_token(master)
    seen = "\n".join([*HEAD, *merge(tables)])
    print(f"\n{seen}")
    assert DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0] == seen


def check_slaves_token(master: NodeProcess) -> None:
    """Check that a slave's own token opens only ``POST /records`` of the master."""
    names = {"webhook": keep_webhook(master), "item": "none"}
    opened = {
        question.label
        for question in list_described("master", names)
        if not question.is_open and ask(master, question, bear(ALPHAS)).status != 401
    }
    assert opened == {"POST /records"}


def test_a_function_requires_the_same_credentials(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        slave = nodes.make_slave("alpha", "function", SYNC_TOKENS=ALPHAS)
        free = nodes.make_slave("free", "function", SYNC_AUTH="none")
        start(slave, free)
        assert see_described(NodePair("slave", slave, free), ALPHAS, MASTERS)
