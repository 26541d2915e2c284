"""The settings of a node, read once from a mapping of strings (the environment) and then frozen.

One table, :data:`SETTINGS`, names every setting, its default and its meaning; the README's table
is checked against it. A wrong or missing setting raises :class:`SettingsError` with one line that
names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from portable_core.errors import SettingsError
from portable_core.ports import MAX_SPAN_MS
from portable_core.settings_reader import (
    Role,
    SettingsReader,
    SlaveAddress,
    StoreAddress,
    check_url,
    is_node_name,
    is_token,
)

__all__ = [
    "SETTINGS",
    "Role",
    "Setting",
    "Settings",
    "SlaveAddress",
    "StoreAddress",
    "is_node_name",
]

Ack = Literal["committed", "buffered"]


class Setting(NamedTuple):
    """One row of the table: the variable's name, its default as text, what it means."""

    name: str
    default: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "STORE", "sqlite:./data/<role>", "`memory:`, `sqlite:PATH` or `firestore:PROJECT/DATABASE`"
    ),
    Setting("SLAVES", "", "master: the slaves as `name=url,name=url`"),
    Setting(
        "SPAN_S",
        "120",
        "how far apart two nodes may stamp the same webhook, in seconds, at most 3600; the same on "
        "every node",
    ),
    Setting(
        "ACK",
        "committed",
        "when a sender gets 200: `committed` or, not on Firestore, `buffered`",
    ),
    Setting(
        "LINGER_MS",
        "",
        "the longest a batch's first webhook waits, at most half of `COMMIT_TIMEOUT_S`; 5 on "
        "Firestore, else 0",
    ),
    Setting("FLUSH_INTERVAL_S", "10", "`buffered` only: a batch is committed at least this often"),
    Setting(
        "COMMIT_TIMEOUT_S",
        "",
        "the longest a commit may take: a quarter of the span at most, by default no more than 10",
    ),
    Setting("BUFFER_RECORDS", "10000", "webhooks that may wait for the store at once"),
    Setting("BUFFER_BYTES", "134217728", "bytes of webhooks that may wait for the store at once"),
    Setting(
        "HASH",
        "crc32c",
        "`crc32c` or `blake2b`; fixed when the store is made, and the same on every node",
    ),
    Setting(
        "HASH_KEY", "", "the secret key of `blake2b`, at most 64 bytes; the same on every node"
    ),
    Setting(
        "MAX_BODY_BYTES",
        "26214400",
        "the largest webhook taken; at most what the platform sends back, and 41943040",
    ),
    Setting(
        "KEEP_HEADERS",
        "content-type,user-agent,x-github-*,x-gitlab-*,x-event-key,x-hook-uuid,stripe-signature,"
        "webhook-*,svix-*,x-shopify-*,x-slack-*,ce-*",
        "the headers that are kept with a webhook; `*` at the end of a name stands for any rest",
    ),
    Setting(
        "RETENTION_S", "604800", "slaves: how long records are kept once a master has passed them"
    ),
    Setting("RETENTION_BYTES", "", "slaves: the most the store may occupy; the oldest go first"),
    Setting("FIRESTORE_DATA", "", "`1` keeps payloads as Firestore maps too, for queries"),
    Setting(
        "FIRESTORE_TTL_S",
        "",
        "how long after its time a TTL policy of Firestore may remove a record",
    ),
    Setting(
        "SYNC_AUTH", "token", "`token`, `oidc`, `token,oidc`, or `none`, which must be asked for"
    ),
    Setting("SYNC_TOKENS", "", "comma-separated; the first is sent, all are accepted"),
    Setting("SLAVE_TOKENS", "", "master: a token of its own for a slave, as `name=token,…`"),
    Setting("OIDC_AUDIENCE", "", "comma-separated; the audiences that an OIDC token may be for"),
    Setting("OIDC_ACCOUNTS", "", "comma-separated; the service accounts that may call, by e-mail"),
    Setting(
        "OIDC_CERTS_URL",
        "https://www.googleapis.com/oauth2/v1/certs",
        "where the keys of OIDC tokens are, as PEM by key id",
    ),
    Setting(
        "SOURCES",
        "",
        "signatures to check, as `name=scheme:secret,…` with `github`, `stripe`, `standard` or "
        "`hmac-sha256@Header-Name`, or `name=closed`; a name may come twice, for rotation",
    ),
    Setting("SYNC_WINDOW_PAIRS", "1000000", "master: the most pairs that one request carries"),
    Setting("SYNC_WINDOW_S", "86400", "master: the longest stretch that one request covers"),
    Setting("SYNC_IDLE_S", "30", "master: how long a slave may be silent before it is given up"),
    Setting("SYNC_BUDGET_S", "240", "master: how long one `/trigger-sync` may take"),
    Setting("SYNC_SLAVE_S", "120", "master: how long one slave may take within it"),
    Setting("SYNC_SLAVE_RECORDS", "1000000", "master: the most records of one slave in one sync"),
    Setting("SYNC_SLAVE_BYTES", "1073741824", "master: the most bytes of one slave in one sync"),
    Setting("MAX_SYNCS", "4", "slaves: syncs answered at the same time; one more gets 429"),
    Setting(
        "HAND_OVER", "", "slaves: the master's address to which records are sent before a stop"
    ),
    Setting(
        "NODE_NAME",
        "",
        "slaves: this one's name in the master's `SLAVES`; `K_SERVICE` if not set",
    ),
    Setting(
        "CONSOLE_TOKEN",
        "",
        "master: what opens the console, at least 16 characters; without it there is none",
    ),
    Setting(
        "CONSOLE_LATE_S", "900", "master: a slave whose cursor is older than this counts as behind"
    ),
    Setting(
        "REPLAY_TARGETS",
        "",
        "master: comma-separated; where the console may send webhooks again, as the beginnings of "
        "addresses; without it nowhere",
    ),
    Setting(
        "REPLAY_SECRET", "", "`whsec_` and base64: signs what is sent again (Standard Webhooks)"
    ),
    Setting("ALLOW_EPHEMERAL", "", "`1` accepts a store that dies with its instance"),
    Setting("PORT", "8080", "where the server listens"),
    Setting(
        "THREADS", "32", "threads of one process; up to eight times as many where senders are slow"
    ),
)

#: A commit to a disk is itself as long as company takes to come; a commit to Firestore costs money.
_LINGER_MS = {"memory": 0, "sqlite": 0, "firestore": 5}

#: The most that ``MAX_BODY_BYTES`` may be: its base64 and its meta are one record on the wire.
MAX_BODY_BYTES = 40 * 2**20

_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one node. Durations are in the unit that the field's name ends with."""

    role: Role
    store: StoreAddress
    slaves: tuple[SlaveAddress, ...]
    span_ms: int
    ack: Ack
    linger_ms: int
    flush_interval_ms: int
    commit_timeout_ms: int
    buffer_records: int
    buffer_bytes: int
    hash: str
    hash_key: bytes
    max_body_bytes: int
    keep_headers: tuple[str, ...]
    retention_ms: int
    retention_bytes: int | None
    firestore_data: bool
    firestore_ttl_ms: int | None
    sync_auth: tuple[str, ...]
    sync_tokens: tuple[str, ...]
    #: By the slave's name.
    slave_tokens: tuple[tuple[str, str], ...]
    oidc_audience: tuple[str, ...]
    oidc_accounts: tuple[str, ...]
    oidc_certs_url: str
    sources: str
    sync_window_pairs: int
    sync_window_ms: int
    sync_idle_ms: int
    sync_budget_ms: int
    sync_slave_ms: int
    sync_slave_records: int
    sync_slave_bytes: int
    max_syncs: int
    hand_over: str
    console_token: str
    console_late_ms: int
    replay_targets: tuple[str, ...]
    replay_secret: str
    node_name: str
    port: int
    threads: int

    @classmethod
    def from_env(cls, role: Role, env: Mapping[str, str]) -> Settings:
        """The settings of a node of this role. Raises :class:`SettingsError`."""
        read = SettingsReader(env, _DEFAULTS)
        span_ms = read.milliseconds("SPAN_S", minimum=1)
        if span_ms > MAX_SPAN_MS:
            raise SettingsError(f"SPAN_S: must be at most {MAX_SPAN_MS // 1000}")
        commit_timeout_ms = (
            read.milliseconds("COMMIT_TIMEOUT_S", minimum=1)
            if read.text("COMMIT_TIMEOUT_S")
            else min(span_ms // 4, 10_000)
        )
        if commit_timeout_ms > span_ms // 4:
            raise SettingsError("COMMIT_TIMEOUT_S: must be at most a quarter of SPAN_S")
        ack = cast(Ack, read.choice("ACK", ("committed", "buffered")))
        flush_interval_ms = read.milliseconds("FLUSH_INTERVAL_S", minimum=1)
        if ack == "buffered" and flush_interval_ms >= span_ms:
            raise SettingsError(
                "FLUSH_INTERVAL_S: must be shorter than SPAN_S (a sync would fetch what waits)"
            )
        algorithm = read.choice("HASH", ("crc32c", "blake2b"))
        hash_key = read.encoded("HASH_KEY")
        if algorithm == "blake2b" and not 1 <= len(hash_key) <= 64:
            raise SettingsError("HASH_KEY: HASH=blake2b needs a key of 1 to 64 bytes")
        sync_auth = read.items("SYNC_AUTH")
        if not sync_auth or (set(sync_auth) - {"token", "oidc"} and sync_auth != ("none",)):
            raise SettingsError("SYNC_AUTH: must be token, oidc, token,oidc or none")
        sync_tokens = read.items("SYNC_TOKENS")
        if "token" in sync_auth and not sync_tokens:
            raise SettingsError(
                "SYNC_TOKENS: missing; set the token that master and slaves share "
                "(SYNC_AUTH=none, where nothing else can reach the nodes, goes without)"
            )
        if not all(map(is_token, sync_tokens)):
            raise SettingsError("SYNC_TOKENS: a token is printable ASCII without spaces")
        slaves = read.slaves()
        oidc_audience = read.items("OIDC_AUDIENCE")
        oidc_accounts = read.items("OIDC_ACCOUNTS", lower=True)
        if "oidc" in sync_auth and not oidc_audience:
            raise SettingsError(
                "OIDC_AUDIENCE: missing; set the audience that callers ask tokens for, "
                "as a rule this node's own address"
            )
        if "oidc" in sync_auth and not oidc_accounts:
            raise SettingsError(
                "OIDC_ACCOUNTS: missing; set the e-mail addresses of the service accounts that "
                "may call this node (anybody at all can get a token for its address)"
            )
        store = read.store(role)
        if ack == "buffered" and store.kind == "firestore":
            raise SettingsError(
                "ACK: buffered cannot go with firestore:, whose other writers tell masters that "
                "nothing old is still to come; use ACK=committed"
            )
        hand_over = read.url("HAND_OVER")
        if (
            role == "slave"
            and "K_SERVICE" in env
            and store.kind != "firestore"
            and not hand_over
            and not read.flag("ALLOW_EPHEMERAL")
        ):
            raise SettingsError(
                f"STORE: {store.kind}: dies with its instance on Cloud Run; set HAND_OVER to the "
                "master's address, use firestore:, or accept the loss with ALLOW_EPHEMERAL=1"
            )
        return cls(
            role=role,
            store=store,
            slaves=slaves,
            span_ms=span_ms,
            ack=ack,
            linger_ms=(
                read.integer("LINGER_MS", minimum=0, maximum=commit_timeout_ms // 2)
                if read.text("LINGER_MS")
                else min(_LINGER_MS[store.kind], commit_timeout_ms // 2)
            ),
            flush_interval_ms=flush_interval_ms,
            commit_timeout_ms=commit_timeout_ms,
            buffer_records=read.integer("BUFFER_RECORDS", minimum=1),
            buffer_bytes=read.integer("BUFFER_BYTES", minimum=1),
            hash=algorithm,
            hash_key=hash_key,
            max_body_bytes=read.integer("MAX_BODY_BYTES", minimum=2, maximum=MAX_BODY_BYTES),
            keep_headers=read.items("KEEP_HEADERS", lower=True),
            retention_ms=read.milliseconds("RETENTION_S", minimum=0),
            retention_bytes=(
                read.integer("RETENTION_BYTES", minimum=1) if read.text("RETENTION_BYTES") else None
            ),
            firestore_data=read.flag("FIRESTORE_DATA"),
            firestore_ttl_ms=(
                read.milliseconds("FIRESTORE_TTL_S", minimum=1)
                if read.text("FIRESTORE_TTL_S")
                else None
            ),
            sync_auth=sync_auth,
            sync_tokens=sync_tokens,
            slave_tokens=read.slave_tokens(slaves),
            oidc_audience=oidc_audience,
            oidc_accounts=oidc_accounts,
            oidc_certs_url=read.certs_url(),
            sources=read.sources(),
            sync_window_pairs=read.integer("SYNC_WINDOW_PAIRS", minimum=1),
            sync_window_ms=read.milliseconds("SYNC_WINDOW_S", minimum=1),
            sync_idle_ms=read.milliseconds("SYNC_IDLE_S", minimum=1),
            sync_budget_ms=read.milliseconds("SYNC_BUDGET_S", minimum=1),
            sync_slave_ms=read.milliseconds("SYNC_SLAVE_S", minimum=1),
            sync_slave_records=read.integer("SYNC_SLAVE_RECORDS", minimum=1),
            sync_slave_bytes=read.integer("SYNC_SLAVE_BYTES", minimum=1),
            max_syncs=read.integer("MAX_SYNCS", minimum=1),
            hand_over=hand_over,
            console_token=read.console_token(),
            console_late_ms=read.milliseconds("CONSOLE_LATE_S", minimum=1),
            replay_targets=tuple(
                check_url("REPLAY_TARGETS", url) for url in read.items("REPLAY_TARGETS")
            ),
            replay_secret=read.replay_secret(),
            node_name=read.node_name(),
            port=read.integer("PORT", minimum=0, maximum=65535),
            threads=read.integer("THREADS", minimum=2),
        )
