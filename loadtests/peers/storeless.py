"""The ceiling of a server: Flask reads the body and answers, and nothing is kept."""

from __future__ import annotations

from flask import Flask, request

app = Flask(__name__)


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/webhook")
def webhook() -> dict[str, int]:
    return {"length": len(request.get_data())}
