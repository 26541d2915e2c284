"""Bytes <-> pairs and records: the formats that two nodes exchange."""
