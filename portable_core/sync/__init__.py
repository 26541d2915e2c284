"""Slave -> master: find and fetch the records that the master lacks."""
