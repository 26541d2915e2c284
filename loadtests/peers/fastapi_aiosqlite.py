"""A plain FastAPI application that commits every webhook with aiosqlite. Run by uvicorn."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosqlite
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiosqlite.connect(os.environ["DATABASE"]) as database:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute("CREATE TABLE IF NOT EXISTS webhooks (payload BLOB)")
        await database.commit()
        app.state.database = database
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/webhook")
async def webhook(request: Request) -> dict[str, str]:
    body = await request.body()
    database = request.app.state.database
    await database.execute("INSERT INTO webhooks VALUES (?)", (body,))
    await database.commit()
    return {"status": "ok"}
