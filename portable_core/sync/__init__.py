"""Slave -> master: find and recover the records that the master lacks."""
