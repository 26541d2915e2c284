"""The HTTP/1.1 server of a container: an event loop, and the WSGI application behind a bridge."""
