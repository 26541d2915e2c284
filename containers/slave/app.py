"""The slave as a WSGI application for other servers: ``gunicorn containers.slave.app:app``."""

from portable_core.adapters.server.stopping import watch_worker
from portable_core.wiring import build_app_or_exit, read_settings_or_exit

app = build_app_or_exit(
    read_settings_or_exit("slave"), lambda node: watch_worker(node.stop, node.close)
)
