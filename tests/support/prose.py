"""The banned phrases, each with what to write instead, and the texts that a person reads."""

from __future__ import annotations

import ast
import json
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from portable_core.cli.main import main
from portable_core.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "portable_core"


class Banned(NamedTuple):
    """A pattern, what to write instead, and a text that contains it."""

    pattern: str
    instead: str
    example: str


class Text(NamedTuple):
    """A text that a person reads, and where it is."""

    place: str
    text: str


#: Patterns ignore case. One meaning of a word is banned by the words around it.
BANNED: tuple[Banned, ...] = (
    Banned(r"\b(tells?|told|telling)\b", "return, report, show or log", "the log tells why"),
    Banned(r"\b(un)?settle[sd]?\b|\bsettling\b", "flush, commit or resolve", "it settles soon"),
    Banned(
        r"(?<!there )\b(is|are|was|be) (?-i:none)\b",
        "invalid, missing or absent",
        "a token that is none",
    ),
    Banned(r"\btakes? none\b", "rejects it", "it takes none"),
    Banned(
        r"\btak(es?|en|ing) (no |an? |the |any |every |only |more |in |all )?"
        r"(webhooks?|requests?|bodies|connections)\b",
        "accept",
        "the node takes no webhooks",
    ),
    Banned(r"\bwhoever\b", "the caller, the sender, anyone who", "whoever has it"),
    Banned(
        r"\b(some|any|every|no)body\b",
        "a client, every node, no one",
        "somebody asks",
    ),
    Banned(
        r"\bwhat (it|they|he|one) (already |itself )?(has|have|had|lacks?|holds?|got|knows?)\b",
        "a noun: the records it already has",
        "less what it has",
    ),
    Banned(
        r"\b(hold|holds|holding|contain|contains|has|other|odd|such|these|or|no) signs\b"
        r"|\bsigns? (that|it|of a|which)\b",
        "character",
        "holds signs that no token may hold",
    ),
    Banned(r"^[#\s>*-]*Let\b", "an imperative verb", "Let the slave go"),
    Banned(r"\b(one|another|each|which|its|same) life\b|\blives of\b", "epoch", "in another life"),
    Banned(
        r"\b(everything|all|it|of each slave) is in\b(?=\s*[,.;:?!)—]|\s*$)"
        r"|\b(all|is everything) in\b(?=\s*[,.;:?!)—]|\s*$)",
        "complete",
        "Is everything in?",
    ),
    Banned(r"\ball (is|goes|went) well\b", "success, or what succeeded", "0 all went well"),
    Banned(r"\bthe answer is no\b", "the check failed", "1 the answer is no"),
    Banned(
        r"\b(up to|until) when\b|(?<!time )\bup to which\b|\bthe moment (before|up to) which\b|"
        r"\bmoment is known\b",
        "the time up to which",
        "and up to when",
    ),
    Banned(r"\bhow far (back|behind|it is)\b", "the age of, the lag of", "How far back it is"),
    Banned(r"\bbecause of which\b", "two sentences", "because of which nothing is lost"),
    Banned(r"\bby hand\b", "manually", "edited by hand"),
    Banned(r"\bas told\b|\bis said so\b|\bsays so\b", "report, log", "the message says so"),
    Banned(r"\bfor ever\b", "forever, without limit", "kept for ever"),
    Banned(r"\b(goes|going|went|go) on\b", "continue", "the sync goes on"),
    Banned(r"\b(comes?|named?|given) twice\b", "is a duplicate", "the name comes twice"),
    Banned(r"\bset right\b", "correct", "until it is set right"),
    Banned(r"\bat peace\b|\bin disorder\b", "idle; not closed cleanly", "closed in disorder"),
    Banned(r"\bhalf-?way\b", "before the end", "left half-way"),
    Banned(r"\bputting it somewhere\b", "Deployment", "Putting it somewhere"),
    Banned(r"\bis it there\b", "Verify", "Is it there?"),
    Banned(r"\bwho may (do what|call)\b", "Access control", "Who may do what"),
    Banned(r"\bgive[sn]? (it |them )?up\b|\bgave (it |them )?up\b", "stop, time out", "gave up"),
    Banned(r"\bmay come several times\b", "repeatable", "may come several times"),
    Banned(r"\bthe sums\b", "the totals", "Print the sums"),
)

_PATTERNS = [(re.compile(ban.pattern, re.IGNORECASE), ban.instead) for ban in BANNED]


def find_banned(text: Text) -> Iterator[str]:
    """Yield a line for each banned phrase in ``text``."""
    for pattern, instead in _PATTERNS:
        for match in pattern.finditer(text.text):
            begin, end = max(0, match.start() - 30), match.end() + 30
            around = " ".join(text.text[begin:end].split())
            yield f"{text.place}: {match[0].strip()!r} in {around!r}; write: {instead}"


# -- scopes ----------------------------------------------------------------------------------------


SETTINGS_PAGE = ROOT / "docs/settings.md"


def read_documents() -> Iterator[Text]:
    """Return the paragraphs of every page but that of the settings, without code."""
    pages = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "containers/README.md"}
    for page in sorted(pages - {SETTINGS_PAGE}):
        yield from _read_page(page)


def _read_page(page: Path) -> Iterator[Text]:
    text = re.sub(r"^( *)```.*?^ *```$", _blank, page.read_text(), flags=re.M | re.S)
    text = re.sub(r"`[^`]*`", _blank, text)
    for number, paragraph in _split_paragraphs(text):
        yield Text(f"{page.relative_to(ROOT)}:{number}", paragraph)


def _blank(match: re.Match[str]) -> str:
    """As many line breaks as there were, and a word in place of the code."""
    return "CODE" + "\n" * match[0].count("\n")


def _split_paragraphs(text: str) -> Iterator[tuple[int, str]]:
    start, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip() and not line.startswith("|"):
            lines = lines or []
            start = start if lines else number
            lines.append(line.strip())
            continue
        if lines:
            yield start, " ".join(lines)
            lines = []
        if line.startswith("|"):
            yield number, line


def read_help() -> Iterator[Text]:
    """The help of every command and of each of its parameters."""
    context = click.Context(main)
    assert isinstance(main, click.Group)
    todo: list[tuple[str, click.Command]] = [("webhook-sync", main)]
    while todo:
        name, command = todo.pop()
        for text in (command.help, command.short_help, command.epilog):
            yield Text(f"{name} --help", text or "")
        for parameter in command.params:
            yield Text(f"{name} {parameter.name}", getattr(parameter, "help", "") or "")
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                todo.append((f"{name} {child}", found))


def read_openapi() -> Iterator[Text]:
    for path in sorted((PACKAGE / "adapters/flask_app/openapi").glob("*.json")):
        yield from _find_described(path.name, json.loads(path.read_text()))


def _find_described(place: str, value: object) -> Iterator[Text]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name in ("summary", "description", "title") and isinstance(item, str):
                yield Text(f"{place}/{name}", item)
            else:
                yield from _find_described(f"{place}/{name}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_described(f"{place}/{index}", item)


def read_settings() -> Iterator[Text]:
    yield from _read_page(SETTINGS_PAGE)
    for setting in SETTINGS:
        yield Text(setting.name, setting.meaning)


def read_console() -> Iterator[Text]:
    """Return the lines of the console's templates, and the strings of its script."""
    console = PACKAGE / "adapters/flask_app/console"
    for path in sorted([*console.glob("templates/*.html"), *console.glob("static/*.js")]):
        text = re.sub(r"\{[%#{].*?[%#}]\}", "…", path.read_text(), flags=re.S)
        if path.suffix == ".js":
            text = "\n".join(
                " ".join(re.findall(r'"[^"]*"|`[^`]*`', line)) for line in text.split("\n")
            )
        for number, line in enumerate(text.splitlines(), 1):
            yield Text(f"{path.name}:{number}", line)


def read_containers() -> Iterator[Text]:
    """Comments of the files under ``containers``, and of the Makefile."""
    yield from read_docstrings(ROOT / "containers")
    yield from read_docstrings(ROOT / "functions")
    skipped = (".md", ".py", ".pyc")
    paths = [path for path in (ROOT / "containers").rglob("*") if path.suffix not in skipped]
    for path in sorted([*paths, ROOT / "Makefile", ROOT / ".ci/run"]):
        if path.is_file():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                comment = re.search(r"(?:^|\s)#+\s(.*)|^Description=(.*)", line)
                if comment:
                    place = f"{path.relative_to(ROOT)}:{number}"
                    yield Text(place, comment[1] or comment[2] or "")


def _walk_modules(folder: Path, *, below: bool) -> Iterator[tuple[Path, ast.Module]]:
    paths = folder.rglob("*.py") if below else folder.glob("*.py")
    for path in sorted(paths):
        yield path, ast.parse(path.read_text())


def read_strings(folder: Path, *, below: bool = True) -> Iterator[Text]:
    """String literals of more than one word: messages of errors and of the log, texts shown."""
    for path, tree in _walk_modules(folder, below=below):
        docstrings = {id(node.body[0].value) for node in _find_documented(tree)}  # type: ignore[attr-defined]  # an Expr, as get_docstring has found one
        parts: set[int] = set()
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.JoinedStr):
                parts |= {id(part) for part in node.values}
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = "" if id(node) in docstrings | parts else node.value
            if " " in text:
                yield Text(f"{path.relative_to(ROOT)}:{node.lineno}", text)  # type: ignore[attr-defined]  # both kinds have a line


def read_docstrings(folder: Path, *, below: bool = True) -> Iterator[Text]:
    """Return the paragraphs of docstrings, without code."""
    for path, tree in _walk_modules(folder, below=below):
        for node in _find_documented(tree):
            place = f"{path.relative_to(ROOT)} {getattr(node, 'name', 'module')}"
            text = re.sub(r"``.*?``", _blank, ast.get_docstring(node) or "", flags=re.DOTALL)
            yield from (Text(place, paragraph) for paragraph in text.split("\n\n"))


def list_functions() -> Iterator[Text]:
    """Return the docstrings of the package's functions and methods, properties aside."""
    for path, tree in _walk_modules(PACKAGE, below=True):
        for node in _find_documented(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = {
                    n.id
                    for d in node.decorator_list
                    for n in ast.walk(d)
                    if isinstance(n, ast.Name)
                }
                if not names & {"property", "cached_property"}:
                    place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                    yield Text(place, ast.get_docstring(node) or "")


def read_comments(folder: Path, *, below: bool = True) -> Iterator[Text]:
    """Return the comments, lines of one block joined, without code."""
    for path, _ in _walk_modules(folder, below=below):
        with path.open("rb") as file:
            tokens = [t for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]
        blocks: dict[int, str] = {}
        start = last = -1
        for token in tokens:
            number = token.start[0]
            start = start if number == last + 1 else number
            last = number
            blocks[start] = f"{blocks.get(start, '')} {token.string.lstrip('#: ')}"
        for number, text in blocks.items():
            yield Text(f"{path.relative_to(ROOT)}:{number}", re.sub(r"``.*?``", "CODE", text))


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _find_documented(tree: ast.Module) -> Iterator[Documented]:
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node):
            yield node


def list_folders() -> dict[str, Path]:
    """The folders of the package that are rewritten one by one; ``.`` is the files beside them."""
    folders = [PACKAGE, *PACKAGE.iterdir(), *(PACKAGE / "adapters").iterdir()]
    return {
        str(folder.relative_to(PACKAGE)): folder
        for folder in sorted(folders)
        if (folder / "__init__.py").exists()
    }


def read_loadtests() -> Iterator[Text]:
    for read in (read_strings, read_docstrings, read_comments):
        yield from read(ROOT / "loadtests")


Scope = Callable[[], Iterator[Text]]


def list_scopes() -> dict[str, Scope]:
    scopes: dict[str, Scope] = {
        "documents": read_documents,
        "help": read_help,
        "openapi": read_openapi,
        "settings": read_settings,
        "console": read_console,
        "containers": read_containers,
    }
    for name, folder in list_folders().items():
        below = name not in (".", "adapters")

        def read(folder: Path = folder, below: bool = below) -> Iterator[Text]:
            yield from read_strings(folder, below=below)
            yield from read_docstrings(folder, below=below)
            yield from read_comments(folder, below=below)

        scopes[f"portable_core/{name}"] = read
    scopes["loadtests"] = read_loadtests
    return scopes


SCOPES = list_scopes()
