"""Write ``docs/providers/presets.md``: ``python -m tests.support.provider_pages``."""

from __future__ import annotations

from pathlib import Path

from portable_core.sources.pages import write_document
from portable_core.sources.presets import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "providers" / "presets.md"


def main() -> None:
    PAGE.write_text(write_document(PRESETS))


if __name__ == "__main__":
    main()
