"""Every command of ``segue``, as click knows it: the source of a page and of the man pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click
from docs.generate.markdown import code, escaped, table

from segue.cli.main import cli


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what ``--help`` says of it, as a value."""

    name: str  # such as "segue policy list"
    usage: str
    summary: str
    paragraphs: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]  # of a group: name, summary

    @property
    def anchor(self) -> str:
        """The fragment of its heading."""
        return self.name.replace(" ", "-")


def commands() -> Iterator[Command]:
    """All of them, a group before its own."""
    yield from _walk(cli, click.Context(cli, info_name="segue"))


def _walk(command: click.Command, context: click.Context) -> Iterator[Command]:
    below: list[tuple[click.Command, click.Context]] = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None  # the group has listed it
            if not one.hidden:
                below.append((one, click.Context(one, info_name=name, parent=context)))
    yield _described(command, context, [(one.name or "", _summary(one)) for one, _ in below])
    for one, its in below:
        yield from _walk(one, its)


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(limit=200).rstrip(".")


def _paragraphs(text: str) -> Iterator[str]:
    """Those of a help text, each as one line; where click keeps lines, each line is one."""
    for one in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if one.startswith("\b\n"):
            yield from one.splitlines()[1:]
        elif one.strip():
            yield " ".join(one.split())


def _described(
    command: click.Command, context: click.Context, below: list[tuple[str, str]]
) -> Command:
    said = [*_paragraphs(command.help or ""), *_paragraphs(command.epilog or "")]
    options = [one.get_help_record(context) for one in command.get_params(context)]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return Command(
        name=context.command_path,
        usage=usage,
        summary=_summary(command),
        paragraphs=tuple(said),
        # Arguments are in the usage, and the text says what they are.
        options=tuple(
            (names, " ".join(text.split())) for names, text in filter(None, options) if text
        ),
        commands=tuple(below),
    )


def page() -> str:
    """The reference of all commands."""
    parts = ["# Commands\n\n`segue COMMAND --help` prints the same.\n"]
    for one in commands():
        parts.append(
            f"\n{'##' if one.name.count(' ') < 2 else '###'} {one.name} {{#{one.anchor}}}\n"
        )
        parts.append(f"\n```text\n{one.usage}\n```\n\n")
        parts.append("\n\n".join(escaped(text) for text in one.paragraphs) + "\n\n")
        if one.commands:
            rows = [
                (f"[`{name}`](#{one.anchor}-{name})", escaped(text)) for name, text in one.commands
            ]
            parts.append(table(("command", "what it does"), rows) + "\n")
        rows = [(code(names), escaped(text)) for names, text in one.options]
        parts.append(table(("option", "what it means"), rows))
    return "".join(parts)
