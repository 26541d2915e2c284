"""The table of settings: one row each, which is also a typed field of :class:`.Settings`.

``docs/settings.md`` shows the same table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from portable_core.payload_hash.algorithms import ALGORITHMS, DEFAULT_ALGORITHM, check_algorithm
from portable_core.ports import MAX_SPAN_MS
from portable_core.records import MAX_INTEGER
from portable_core.settings_reader import (
    CONSOLE_TOKEN_CHARACTERS,
    Network,
    SlaveAddress,
    flag,
    integer,
    items,
    keys_url,
    lower_items,
    networks,
    one_of,
    optional,
    optional_url,
    parse_console_token,
    parse_node_name,
    parse_slave_tokens,
    parse_slaves,
    parse_sync_auth,
    seconds,
    setting,
    text,
    tokens,
    urls,
    utf8,
    words,
)
from portable_core.sources.delivery_logs import LOG_KINDS, DeliveryLogs, parse_delivery_logs
from portable_core.sources.kept_headers import DEFAULT_KEPT, NEVER_KEPT
from portable_core.sources.rows import SourceRow
from portable_core.sources.schemes import CLOSED, check_standard_secret
from portable_core.sources.signatures import Sources, parse_sources
from portable_core.sources.source_file import read_sources_file
from portable_core.store_kinds import STORE_KINDS, StoreAddress, parse_store

Ack = Literal["committed", "buffered"]

#: The largest ``MAX_BODY_BYTES``: a payload's base64 and its metadata are one record on the wire.
MAX_BODY_BYTES = 40 * 2**20

#: The default of ``COMMIT_TIMEOUT_S`` is at most this.
_COMMIT_TIMEOUT_MS = 10_000


def _list(names: list[str]) -> str:
    """Return names in code spans, as ``a, b or c``."""
    spans = [f"`{name}`" for name in names]
    return " or ".join(filter(None, (", ".join(spans[:-1]), spans[-1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsTable:
    """The value of each setting. A field's name ends with its unit where that is not the row's."""

    store: StoreAddress = setting(
        "STORE",
        "sqlite:./data/<role>",
        parse_store,
        f"The store: {_list([kind.form for kind in STORE_KINDS.values()])}. `sqlite:~/PATH` is a "
        "path in the home directory.",
        per_role=True,
        home_after="sqlite:",
    )
    slaves: tuple[SlaveAddress, ...] = setting(
        "SLAVES", "", parse_slaves, "The slaves, as `name=url,name=url`.", role="master"
    )
    span_ms: int = setting(
        "SPAN_S",
        "120",
        seconds(maximum_ms=MAX_SPAN_MS),
        "Largest distance between two nodes' timestamps of the same webhook; at most "
        f"{MAX_SPAN_MS // 1000}. The same on every node.",
        unit="s",
    )
    ack: Ack = setting(
        "ACK",
        "committed",
        one_of(("committed", "buffered")),
        "When a sender gets 200: once the webhook is durable (`committed`) or once it is in "
        "memory (`buffered`; not with "
        f"{_list([kind.name + ':' for kind in STORE_KINDS.values() if kind.shared])}).",
    )
    commit_timeout_ms: int = setting(
        "COMMIT_TIMEOUT_S",
        "a quarter of `SPAN_S`, at most 10",
        seconds(),
        "Timeout of a commit to the store; at most a quarter of `SPAN_S`.",
        unit="s",
        derive=lambda known: min(known.span_ms // 4, _COMMIT_TIMEOUT_MS),
        formerly="SETTLE_S",
    )
    linger_ms: int = setting(
        "LINGER_MS",
        "".join(
            f"{kind.default_linger_ms} with `{kind.name}:`, "
            for kind in STORE_KINDS.values()
            if kind.default_linger_ms
        )
        + "else 0; at most half of `COMMIT_TIMEOUT_S`",
        integer(0),
        "Longest wait of the first webhook of a batch for others to join it; at most half of "
        "`COMMIT_TIMEOUT_S`.",
        unit="ms",
        derive=lambda known: min(known.store.kind.default_linger_ms, known.commit_timeout_ms // 2),
    )
    flush_interval_ms: int = setting(
        "FLUSH_INTERVAL_S",
        "10",
        seconds(),
        "`ACK=buffered` only: longest time between two commits.",
        unit="s",
    )
    buffer_records: int = setting(
        "BUFFER_RECORDS",
        "10000",
        integer(1),
        "Most webhooks that wait for the store at once; further ones get 503.",
        unit="webhooks",
    )
    buffer_bytes: int = setting(
        "BUFFER_BYTES",
        "134217728",
        integer(1),
        "Most bytes of webhooks that wait for the store at once; further ones get 503.",
        unit="bytes",
    )
    hash: str = setting(
        "HASH",
        DEFAULT_ALGORITHM,
        lambda name: check_algorithm(name).name,
        f"The hash algorithm: {_list(list(ALGORITHMS))}. Fixed when the store is created; the "
        "same on every node.",
    )
    hash_key: bytes = setting(
        "HASH_KEY",
        "",
        utf8,
        "Secret key of "
        + ", ".join(
            f"`{algorithm.name}` (1 to {algorithm.key_bytes} bytes)"
            for algorithm in ALGORITHMS.values()
            if algorithm.keyed
        )
        + ". The same on every node.",
        secret=True,
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES",
        "26214400",
        integer(2, MAX_BODY_BYTES),
        f"Largest accepted payload; at most {MAX_BODY_BYTES}, and no more than the platform "
        "allows in a response.",
        unit="bytes",
    )
    keep_headers: tuple[str, ...] = setting(
        "KEEP_HEADERS",
        ",".join(DEFAULT_KEPT),
        lower_items,
        "Headers that are stored with a webhook, comma-separated; a final `*` matches the rest of "
        "a name. Event headers and those that an identity rule reads are always stored, secrets "
        f"never: {_list(list(NEVER_KEPT))}.",
    )
    keep_credential_headers: tuple[str, ...] = setting(
        "KEEP_CREDENTIAL_HEADERS",
        "",
        lower_items,
        "Headers that are stored although they are secrets, comma-separated. Anyone who reads a "
        "stored webhook can use them.",
    )
    retention_ms: int = setting(
        "RETENTION_S",
        "604800 on a slave; none on a master",
        seconds(0),
        "How long records are kept once they are complete: on a slave, once every master has "
        "synced past them; on a master, once it is complete for every slave and consumers have "
        "got them.",
        unit="s",
        derive=lambda known: 604_800_000 if known.role == "slave" else MAX_INTEGER,
    )
    retention_bytes: int | None = setting(
        "RETENTION_BYTES",
        "",
        optional(integer(1)),
        "Largest size of the store; the oldest records are removed first: on a slave synced or "
        "not, on a master only those that `RETENTION_S` could remove.",
        unit="bytes",
    )
    consumer_expiry_ms: int = setting(
        "CONSUMER_EXPIRY_S",
        "2592000",
        seconds(),
        "Retention no longer waits for a registered consumer that has not moved for so long.",
        unit="s",
        role="master",
    )
    consumer_quota_bytes: int | None = setting(
        "CONSUMER_QUOTA_BYTES",
        "",
        optional(integer(0)),
        "Most bytes that retention keeps for consumers alone. Beyond them it removes webhooks that "
        "a consumer has not got; with `0` it waits for none.",
        unit="bytes",
        role="master",
    )
    retention_late_ms: int = setting(
        "RETENTION_LATE_S",
        "86400",
        seconds(),
        "A master that has not passed records of this age is late: the status names it, because "
        "retention waits for it.",
        unit="s",
        role="slave",
    )
    firestore_data: bool = setting(
        "FIRESTORE_DATA",
        "",
        flag,
        "`1` also stores a copy of each webhook with the payload as a Firestore map, for queries.",
    )
    firestore_ttl_ms: int | None = setting(
        "FIRESTORE_TTL_S",
        "",
        optional(seconds()),
        "Age at which a TTL policy of Firestore may remove a record.",
        unit="s",
    )
    sync_auth: tuple[str, ...] = setting(
        "SYNC_AUTH",
        "token",
        parse_sync_auth,
        "How callers authenticate: `token`, `oidc`, `token,oidc` or `none`.",
    )
    sync_tokens: tuple[str, ...] = setting(
        "SYNC_TOKENS",
        "",
        tokens,
        "Bearer tokens, comma-separated; the first one is sent, all are accepted.",
        secret=True,
    )
    slave_tokens: Mapping[str, str] = setting(
        "SLAVE_TOKENS",
        "",
        parse_slave_tokens,
        "A token of its own for a slave, as `name=token,…`.",
        role="master",
        secret=True,
    )
    oidc_audience: tuple[str, ...] = setting(
        "OIDC_AUDIENCE", "", items, "Accepted audiences of OIDC tokens, comma-separated."
    )
    oidc_accounts: tuple[str, ...] = setting(
        "OIDC_ACCOUNTS",
        "",
        lower_items,
        "E-mail addresses of the service accounts that may call, comma-separated.",
    )
    oidc_certs_url: str = setting(
        "OIDC_CERTS_URL",
        "https://www.googleapis.com/oauth2/v1/certs",
        keys_url,
        "Address of the public keys of OIDC tokens: PEM by key ID.",
    )
    sources: Sources = setting(
        "SOURCES",
        "",
        parse_sources,
        "Presets of senders and their secrets, as `name=preset:secret,…` "
        f"(`webhook-sync sources list`), or `name={CLOSED}` to accept nothing. A name may occur "
        "twice, for rotation.",
        secret=True,
    )
    public_url: str = setting(
        "PUBLIC_URL",
        "",
        optional_url,
        "Address of this node as senders know it, for signatures that cover the address; its path "
        "is that of the console behind a proxy.",
    )
    ca_file: str = setting(
        "CA_FILE",
        "",
        text,
        "Path of certificate authorities in PEM that outgoing requests trust besides those of the "
        "system.",
        home_after="",
    )
    sources_file: Mapping[str, SourceRow] = setting(
        "SOURCES_FILE",
        "",
        read_sources_file,
        "Path of a TOML file with a table for each source: its preset, or its columns, and its "
        "secrets. The same rules on every node.",
        home_after="",
    )
    provider_logs: DeliveryLogs = setting(
        "PROVIDER_LOGS",
        "",
        parse_delivery_logs,
        f"Delivery logs of providers ({', '.join(kind.title for kind in LOG_KINDS.values())}) from "
        "which the master recovers what no node received, as "
        "`name=kind:target?source=NAME&token=env:NAME,…`.",
        role="master",
        secret=True,
    )
    sync_every_ms: int | None = setting(
        "SYNC_EVERY_S",
        "",
        optional(seconds(100)),
        "The master syncs by itself so often; several instances share the work. Without it, a "
        "scheduler calls `POST /trigger-sync`.",
        unit="s",
        role="master",
    )
    sync_window_pairs: int = setting(
        "SYNC_WINDOW_PAIRS",
        "1000000",
        integer(1),
        "Most pairs in one sync request.",
        unit="pairs",
        role="master",
    )
    sync_window_ms: int = setting(
        "SYNC_WINDOW_S",
        "86400",
        seconds(),
        "Longest window of one sync request.",
        unit="s",
        role="master",
    )
    sync_idle_ms: int = setting(
        "SYNC_IDLE_S",
        "30",
        seconds(),
        "Timeout for a slave that sends nothing.",
        unit="s",
        role="master",
    )
    sync_budget_ms: int = setting(
        "SYNC_BUDGET_S",
        "240",
        seconds(),
        "Longest time of one `/trigger-sync`.",
        unit="s",
        role="master",
    )
    sync_slave_ms: int = setting(
        "SYNC_SLAVE_S",
        "120",
        seconds(),
        "Longest time of one slave within `SYNC_BUDGET_S`.",
        unit="s",
        role="master",
    )
    sync_slave_records: int = setting(
        "SYNC_SLAVE_RECORDS",
        "1000000",
        integer(1),
        "Most records from one slave in one sync.",
        unit="records",
        role="master",
    )
    sync_slave_bytes: int = setting(
        "SYNC_SLAVE_BYTES",
        "1073741824",
        integer(1),
        "Most bytes from one slave in one sync.",
        unit="bytes",
        role="master",
    )
    quarantine_ms: int | None = setting(
        "QUARANTINE_S",
        "",
        optional(seconds()),
        "How long an invalid record stays in quarantine; without it until an operator releases or "
        "deletes the record.",
        unit="s",
        role="master",
    )
    quarantine_records: int = setting(
        "QUARANTINE_RECORDS",
        "100000",
        integer(0),
        "Most invalid records that are set aside; at the next one the sync of its slave fails.",
        unit="records",
        role="master",
    )
    quarantine_bytes: int = setting(
        "QUARANTINE_BYTES",
        "268435456",
        integer(0),
        "Most bytes of invalid records that are set aside.",
        unit="bytes",
        role="master",
    )
    max_syncs: int = setting(
        "MAX_SYNCS",
        "4",
        integer(1),
        "Most syncs answered at the same time; a further one gets 429.",
        unit="syncs",
        role="slave",
    )
    hand_over: str = setting(
        "HAND_OVER",
        "",
        optional_url,
        "Address of the master; the slave sends its unsynced records there when it is stopped.",
        role="slave",
    )
    service: str = setting(
        "K_SERVICE", "", text, "Name of the service; Cloud Run and Cloud Functions set it."
    )
    node_name: str = setting(
        "NODE_NAME",
        "`K_SERVICE`, else `unnamed`",
        parse_node_name,
        "This slave's name in the master's `SLAVES`.",
        role="slave",
        derive=lambda known: parse_node_name(known.service or "unnamed"),
    )
    console_token: str = setting(
        "CONSOLE_TOKEN",
        "",
        parse_console_token,
        f"Token to log in to the console, at least {CONSOLE_TOKEN_CHARACTERS} characters; "
        "without it there is no console.",
        role="master",
        secret=True,
    )
    console_late_ms: int = setting(
        "CONSOLE_LATE_S",
        "900",
        seconds(),
        "A slave whose cursor is older than this is late.",
        unit="s",
        role="master",
    )
    replay_targets: tuple[str, ...] = setting(
        "REPLAY_TARGETS",
        "",
        urls,
        "Addresses to which the console may replay webhooks, comma-separated; each one allows "
        "every address that begins with it. Without it the console replays nothing.",
        role="master",
    )
    replay_secret: str = setting(
        "REPLAY_SECRET",
        "",
        check_standard_secret,
        "Secret that signs replayed webhooks (Standard Webhooks): `whsec_` and base64.",
        role="master",
        secret=True,
    )
    forward_url: str = setting(
        "FORWARD_URL",
        "",
        optional_url,
        "Address to which `serve` forwards all webhooks, by a process of its own "
        "(`webhook-sync forward`). Only with `sqlite:`, and not with `SYNC_AUTH=oidc`.",
        role="master",
    )
    forward_options: tuple[str, ...] = setting(
        "FORWARD_OPTIONS",
        "",
        words,
        "Further options of `webhook-sync forward`, as in a shell: `--concurrency 8 --unordered`.",
        role="master",
    )
    forward_secret: str = setting(
        "FORWARD_SECRET",
        "",
        check_standard_secret,
        "Secret that signs forwarded webhooks (Standard Webhooks): `whsec_` and base64.",
        role="master",
        secret=True,
    )
    allow_ephemeral: bool = setting(
        "ALLOW_EPHEMERAL",
        "",
        flag,
        "`1` accepts a store whose records are lost when its instance ends.",
        role="slave",
    )
    google_project: str = setting(
        "GOOGLE_CLOUD_PROJECT", "", text, "Google Cloud project of the traces that log lines name."
    )
    port: int = setting("PORT", "8080", integer(0, 65535), "Port that the server listens on.")
    host: str = setting(
        "HOST",
        "all addresses, IPv4 and IPv6",
        text,
        "Name or IP address that a container listens on.",
        derive=lambda known: "",
    )
    threads: int = setting(
        "THREADS",
        "32",
        integer(2),
        "Threads of one process, for syncs, feeds, the console and the status. Webhooks wait on "
        "the event loop, without a thread.",
        unit="threads",
    )
    other_variables: tuple[str, ...] = setting(
        "OTHER_VARIABLES",
        "",
        items,
        "Variables of other programs that only look like misspelt settings, comma-separated.",
    )
    idle_timeout_ms: int = setting(
        "IDLE_TIMEOUT_S",
        "620",
        seconds(),
        "How long a node keeps an idle connection; longer than the load balancer does.",
        unit="s",
    )
    max_connections: int = setting(
        "MAX_CONNECTIONS",
        "16384",
        integer(16),
        "Most open connections of a process, and no more than the limit of open files leaves; "
        "beyond, the longest idle ones are closed.",
        unit="connections",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "TRUSTED_PROXIES",
        "",
        networks,
        "Networks of the proxies whose `Forwarded` and `X-Forwarded-*` headers a node "
        "believes, comma-separated, as in `10.0.0.0/8,::1`.",
    )
