"""Stand-ins of providers whose delivery logs a master reads."""
