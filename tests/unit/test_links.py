"""The documents point to things that exist: links, headings, files, tests, make targets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "containers/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = "portable_core|functions|containers|loadtests|tests|docs"


def name_anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub names them."""
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
def test_a_document_points_to_things_that_exist(document: Path) -> None:
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


# -- what the pages have to cover ------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 900


def test_the_index_links_every_page() -> None:
    for index in (ROOT / "docs/README.md", ROOT / "docs/decisions/README.md"):
        linked = set(re.findall(r"\]\(([\w-]+\.md)", index.read_text()))
        assert linked == {path.name for path in index.parent.glob("*.md")} - {"README.md"}


def read_map() -> list[str]:
    """Return the paths in the map of the package, in its order."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.split("<!-- map -->")[1].split("<!-- end of map -->")[0]
    return re.findall(r"^\| `portable_core/([^`]+)` \| .+ \|$", table, re.MULTILINE)


def test_the_map_lists_exactly_the_modules_and_folders_that_exist() -> None:
    package = ROOT / "portable_core"
    levels = [package, package / "adapters"]
    modules = {path for level in levels for path in level.glob("[!_]*.py")}
    folders = {path.parent for level in levels for path in level.glob("*/*.py")}
    expected = {str(path.relative_to(package)) for path in modules}
    expected |= {f"{path.relative_to(package)}/" for path in folders}
    assert sorted(read_map()) == sorted(expected)


def test_the_map_is_in_the_order_of_the_import_rules() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [rule["layers"] for rule in rules["contracts"] if "containers" in rule]
    ranks = {
        name.strip(): rank
        for rank, layer in enumerate(reversed(layers))
        for name in layer.split("|")
    }
    order = [ranks[path.partition("/")[0].removesuffix(".py")] for path in read_map()]
    assert order == sorted(order)


def test_the_hooks_run_the_commands_of_make_lint() -> None:
    document = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in document["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in document["repos"]} == {"local"}
    entries = [set(hook["entry"].split()) for hook in hooks]
    recipe = (ROOT / "Makefile").read_text().split("\nlint: ")[1].split("\n\n")[0]
    for line in re.findall(r"^\t\$\(BIN\)/(.*)$", recipe, re.MULTILINE):
        command = {
            word for word in f".venv/bin/{line}".split() if word != "." and word != "--no-logo"
        }
        assert any(command <= entry for entry in entries), line
