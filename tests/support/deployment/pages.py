"""The commands and files in a page of the documentation, by section."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
TWO_MACHINES = ROOT / "docs" / "two-machines.md"


@dataclass(slots=True)
class Section:
    """A section: the blocks of commands in their order, and the other blocks by language."""

    sh: list[str] = field(default_factory=list)
    blocks: dict[str, str] = field(default_factory=dict)


def read_page(path: Path) -> dict[str, Section]:
    """Return the sections of a page by heading."""
    sections: dict[str, Section] = {}
    for part in re.split(r"^#+ ", path.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        section = sections.setdefault(heading, Section())
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
            if language == "sh":
                section.sh.append(block)
            else:
                section.blocks[language] = block
    return sections
