"""``python -m portable_core`` is ``webhook-sync``."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which may hold any modules: flask.py, for example

from portable_core.cli.main import main

main()
