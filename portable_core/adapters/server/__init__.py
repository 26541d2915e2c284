"""What servers need around a node: the stop, slow senders under threads, memory settings."""
