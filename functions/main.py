"""Targets of Cloud Functions: ``functions-framework --source functions/main.py --target slave``."""

import sys
from pathlib import Path

# The uploaded project is not installed: pip refuses a folder beside hashes in requirements.txt.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from portable_core.functions.main import master, slave  # found by the line above

__all__ = ["master", "slave"]
