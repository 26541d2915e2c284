"""Targets of Cloud Functions: ``functions-framework --source functions/main.py --target slave``."""

from portable_core.functions.main import master, slave

__all__ = ["master", "slave"]
