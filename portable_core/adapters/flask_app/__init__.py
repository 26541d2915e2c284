"""The Flask application, one for both roles and both deployments.

Every error of the core is answered as ``application/problem+json`` (RFC 9457) with the status that
its class carries; so are the errors of the framework itself.
"""

from portable_core.adapters.flask_app.app import create_app

__all__ = ["create_app"]
