"""The ceiling of functions-framework: a handler that reads the body and answers."""

from __future__ import annotations

import functions_framework
from flask import Request


@functions_framework.http
def webhook(request: Request) -> dict[str, int]:
    return {"length": len(request.get_data())}
