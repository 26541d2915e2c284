"""The web console of a master: pages for people, behind a login of their own.

Server-rendered; a little JavaScript only makes what is under way visible as it happens.
"""

from portable_core.adapters.flask_app.console.routes import add_console

__all__ = ["add_console"]
