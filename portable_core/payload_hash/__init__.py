"""Bytes of a payload -> canonical bytes -> identity -> hash and key."""
