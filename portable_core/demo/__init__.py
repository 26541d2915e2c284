"""The demonstration: real processes, real webhooks, real faults, and a check that can fail."""
