"""A plain Starlette application with group commit: what an experienced user would write.

A thread commits all webhooks that wait, in one transaction. Run by uvicorn.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

_waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()


def _commit_batches(loop: asyncio.AbstractEventLoop) -> None:
    database = sqlite3.connect(os.environ["DATABASE"])
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS webhooks (payload BLOB)")
    while (first := _waiting.get()) is not None:
        batch = [first]
        while not _waiting.empty() and (following := _waiting.get()) is not None:
            batch.append(following)
        database.executemany("INSERT INTO webhooks VALUES (?)", [(body,) for body, _ in batch])
        database.commit()
        loop.call_soon_threadsafe(_resolve, [future for _, future in batch])
    database.close()


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    thread = threading.Thread(target=_commit_batches, args=(asyncio.get_running_loop(),))
    thread.start()
    yield
    _waiting.put(None)
    thread.join()


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def webhook(request: Request) -> JSONResponse:
    body = await request.body()
    committed = asyncio.get_running_loop().create_future()
    _waiting.put((body, committed))
    await committed
    return JSONResponse({"status": "ok"})


app = Starlette(
    routes=[Route("/health", health), Route("/webhook", webhook, methods=["POST"])],
    lifespan=lifespan,
)
