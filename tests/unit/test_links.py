"""What the documents point to is there: links, headings, files, tests, make targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "containers/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = "portable_core|functions|containers|loadtests|tests|docs"


def name_anchors(document: Path) -> set[str]:
    """The headings' names in addresses, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_broken(document: Path) -> Iterator[str]:
    text = document.read_text()
    for link in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
        path, _, anchor = "".join(link).partition("#")
        target = document.parent / path if path else document
        if path.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in name_anchors(target)):
            yield f"link {path}#{anchor}"
    for path, test in re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)(?:::(\w+))?`", text):
        files = list(ROOT.glob(path))
        if not files or (test and f"def {test}(" not in files[0].read_text()):
            yield f"path {path} {test}"
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE):
        if f"\n{target}:" not in makefile:
            yield f"make {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_is_there(document: Path) -> None:
    assert list(find_broken(document)) == []


def test_broken_ones_are_found(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(
        "# Here\n[a](#here) [b](#there) [c](gone.md) `docs/gone.md` `docs/hash.md` "
        "`tests/unit/test_links.py::test_gone` `make gone` `make demo`\n"
    )
    assert [fault.split()[0] for fault in find_broken(document)] == [
        *("link", "link", "path", "path", "make"),
    ]
