"""A consumer with Celery: an inbox in the database, and a task for each webhook.

Brokers may lose a task whose worker is killed. The inbox does not: the feeder saves each webhook
there, and feeder and worker queue again at their start those that no task has completed.

    celery --app celery_consumer worker
    MASTER_URL=https://master.example TOKEN=… python celery_consumer.py
"""

from __future__ import annotations

import json
import os
import sqlite3

from celery import Celery
from celery.signals import worker_ready

from portable_core.client import follow

app = Celery("celery_consumer", broker=os.environ["BROKER"])
app.conf.broker_transport_options = json.loads(os.environ.get("BROKER_OPTIONS", "{}"))
app.conf.task_ignore_result = True

TABLES = """
CREATE TABLE IF NOT EXISTS position (name TEXT PRIMARY KEY, position TEXT);
CREATE TABLE IF NOT EXISTS inbox (key TEXT PRIMARY KEY, payload BLOB);
CREATE TABLE IF NOT EXISTS orders (key TEXT PRIMARY KEY, number INTEGER);
"""


def connect() -> sqlite3.Connection:
    """Open the database, with its tables."""
    database = sqlite3.connect(os.environ["DATABASE"], timeout=30)
    database.executescript(TABLES)
    return database


@app.task
def create_order(key: str) -> None:
    """Create the order of a webhook and remove it from the inbox, in one transaction."""
    database = connect()
    with database:
        database.execute("BEGIN IMMEDIATE")
        row = database.execute("SELECT payload FROM inbox WHERE key=?", (key,)).fetchone()
        if row is not None:
            number = json.loads(row[0])["number"]
            database.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", (key, number))
            database.execute("DELETE FROM inbox WHERE key=?", (key,))
    database.close()


@worker_ready.connect
def queue_inbox(**_: object) -> None:
    """Queue a task for each webhook in the inbox."""
    database = connect()
    for (key,) in database.execute("SELECT key FROM inbox").fetchall():
        create_order.delay(key)
    database.close()


def feed() -> None:
    """Follow the feed: save each webhook and the position in one transaction, then queue it."""
    queue_inbox()
    database = connect()
    row = database.execute("SELECT position FROM position").fetchone()
    after = row[0] if row else None
    for webhook in follow(os.environ["MASTER_URL"], os.environ["TOKEN"], after=after):
        with database:
            if not webhook.repeat:
                values = (webhook.key, webhook.payload)
                database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?)", values)
            database.execute(
                "INSERT OR REPLACE INTO position VALUES ('shop', ?)", (webhook.position,)
            )
        create_order.delay(webhook.key)


if __name__ == "__main__":
    feed()
