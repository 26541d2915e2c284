"""Authentication of callers, and this node's own credentials."""
