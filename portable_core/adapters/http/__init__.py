"""HTTP requests to other nodes and to replay targets."""
