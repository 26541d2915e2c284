"""The container's server and what a serving process needs around it."""
