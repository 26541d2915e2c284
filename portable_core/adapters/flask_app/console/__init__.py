"""The web console of a master: pages for people, behind a login of their own.

Pages are rendered on the server; a small script shows the progress of syncs and replays.
"""

from portable_core.adapters.flask_app.console.routes import add_console

__all__ = ["add_console"]
