"""A consumer in FastAPI, for ``webhook-sync forward URL --secret whsec_…``.

SECRET=whsec_… DATABASE=shop.sqlite3 uvicorn fastapi_consumer:app --port 3000
"""

from __future__ import annotations

import os
import sqlite3

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

app = FastAPI()
verifier = Webhook(os.environ["SECRET"])


def connect() -> sqlite3.Connection:
    """Open the database, with its table."""
    database = sqlite3.connect(os.environ["DATABASE"], timeout=10)
    database.execute("CREATE TABLE IF NOT EXISTS orders (key TEXT PRIMARY KEY, number INTEGER)")
    return database


def save_order(key: str, number: int) -> None:
    """Save an order. A repeat has the same key and changes nothing."""
    database = connect()
    with database:  # one transaction
        database.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", (key, number))
    database.close()


@app.post("/webhooks", status_code=204)
async def receive(request: Request) -> None:
    """Accept a webhook: a response 2xx says that its effect is durable."""
    body = await request.body()
    try:
        payload = verifier.verify(body, dict(request.headers))
    except WebhookVerificationError as error:
        raise HTTPException(401, "invalid signature") from error
    await run_in_threadpool(save_order, request.headers["webhook-id"], payload["number"])
