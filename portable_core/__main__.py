"""``python -m portable_core`` is ``webhook-sync``."""

from portable_core.cli.main import main

main()
