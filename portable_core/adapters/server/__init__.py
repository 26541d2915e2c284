"""The container's server, and the supervision of a serving process."""
