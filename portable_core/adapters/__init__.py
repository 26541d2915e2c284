"""The edge: one module or package per outside thing, each behind a port or around a role."""
