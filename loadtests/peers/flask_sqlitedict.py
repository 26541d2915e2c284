"""A plain Flask application that stores every webhook in an autocommitting SqliteDict.

``synchronous`` is set to FULL, which sqlitedict itself switches off, so that all peers promise the
same. Run by gunicorn with threads, opened in the worker.
"""

from __future__ import annotations

import os
import uuid
from functools import cache

from flask import Flask, request
from sqlitedict import SqliteDict

app = Flask(__name__)


@cache
def database() -> SqliteDict:
    webhooks = SqliteDict(
        os.environ["DATABASE"], autocommit=True, journal_mode="WAL", outer_stack=False
    )
    webhooks.conn.execute("PRAGMA synchronous = FULL")
    return webhooks


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/webhook")
def webhook() -> dict[str, str]:
    webhooks = database()
    webhooks[uuid.uuid4().hex] = request.get_data()
    webhooks.commit()  # blocks until it is on the disk; autocommit alone only queues it
    return {"status": "ok"}
