"""Sender -> buffer -> store: hash, timestamp, group commit, acknowledge."""
