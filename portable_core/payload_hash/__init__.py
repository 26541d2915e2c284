"""Bytes of a JSON payload -> canonical bytes -> hash."""
