"""Store -> people and programs: search, feed, replay."""
