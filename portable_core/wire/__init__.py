"""Bytes <-> pairs and records: the encodings that two nodes exchange."""
