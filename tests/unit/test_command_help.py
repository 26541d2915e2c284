"""The help of every command: ``-h``, a meaning for each option, examples that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from portable_core.cli.main import main


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


PATHS = list(walk(main, ()))


def find(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        child = command.get_command(click.Context(command), name)
        assert child is not None
        command = child
    return command


def read_examples(command: click.Command) -> list[str]:
    """The lines below ``Examples:``, up to an empty one."""
    block = re.search(r"(?<=\bExamples:\n)(  .+\n?)+", command.epilog or "")
    return [] if block is None else [line.strip() for line in block[0].splitlines()]


def check_arguments(arguments: list[str]) -> None:
    """Raise ``click.UsageError`` if the commands do not accept these arguments."""
    command: click.Command = main
    parent: click.Context | None = None
    while True:
        context = command.make_context(command.name, arguments, parent=parent)
        if not isinstance(command, click.Group):
            return
        name, child, arguments = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert child is not None, name
        command, parent = child, context


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_h_is_help(path: tuple[str, ...]) -> None:
    short, long = (
        CliRunner().invoke(main, [*path, option], terminal_width=80) for option in ("-h", "--help")
    )
    assert (short.exit_code, short.output) == (0, long.output)
    assert "Examples:" in short.output
    assert max(map(len, short.output.splitlines())) <= 80


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_option_has_a_meaning(path: tuple[str, ...]) -> None:
    command = find(path)
    assert (command.help or "").split("\n\n")[0].endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            assert re.fullmatch(r"[A-Z](?s:.)*[.)]", option.help or ""), option.name


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_examples_are_accepted(path: tuple[str, ...]) -> None:
    examples = read_examples(find(path))
    assert 2 <= len(examples) <= 4
    for example in examples:
        match = re.search(r"webhook-sync( [^|<>)]*|$)", example)
        assert match is not None, example
        arguments = shlex.split(match[1])
        assert tuple(arguments[: len(path)]) == path
        check_arguments(arguments)


@pytest.mark.parametrize(
    "arguments", ["status --lat 3", "webhooks lst", "verify --since yesterday", "replay"]
)
def test_a_wrong_example_is_caught(arguments: str) -> None:
    with pytest.raises(click.UsageError):
        check_arguments(arguments.split())
