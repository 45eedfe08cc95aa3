"""Every command line of segue in the documents is one that segue takes."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from docs.generate.commands import commands
from tests.docs.pages import PAGES, ROOT, inline, typed

from segue.cli.main import cli
from segue.cli.run import read, run

# Options whose value is a command line.
_COMMANDS = ("--during",)


def words(line: str) -> list[str]:
    """Those of a command line, without a comment and what is piped on."""
    return shlex.split(line.partition(" | ")[0], comments=True)


def of_segue(line: str) -> list[list[str]]:
    """The arguments of each call of segue in a line, also in one that another call runs."""
    split = words(line)
    inner = [split[at + 1] for at, word in enumerate(split[:-1]) if word in _COMMANDS]
    found = [call for one in inner for call in of_segue(one)]
    if split[:1] == ["sudo"]:
        split = split[1:]
    return [*([split[1:]] if split[:1] == ["segue"] else []), *found]


def take(arguments: list[str]) -> None:
    """Parse them as segue does, without doing anything.  Raises ClickException or SegueError."""
    command: click.Command | None = cli
    context: click.Context | None = None
    name, rest = "segue", arguments
    while isinstance(command, click.Group):
        context = command.make_context(name, rest, parent=context)
        found, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        name = found or ""
    assert command is not None
    context = command.make_context(name, rest, parent=context)
    if command is run:
        given = dict(context.params)
        config = given.pop("config")
        given.pop("check")
        if given["command"]:
            read(config, given, str(ROOT / "docs"))


LINES = {
    f"{page.relative_to(ROOT)}: {line}": arguments
    for page in PAGES
    for line in typed(page.read_text())
    for arguments in of_segue(line)
}


def lacking(line: str) -> list[str]:
    """The command or the options of a call that a sentence names, as far as segue lacks them."""
    name, *rest = line.split()[1:]
    known = {one.name: one for one in commands()}
    below = f"segue {name} {rest[0]}" if rest else ""
    found = known.get(below) or known.get(f"segue {name}")
    if found is None:
        return [name]
    options = " ".join(names for names, _ in found.options)
    flags = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line.partition(" -- ")[0].partition("'")[0])
    return [one for one in flags if not re.search(rf"{one}(?![\w-])", options)]


NAMED = {
    f"{page.relative_to(ROOT)}: {call}": call
    for page in PAGES
    for call in inline(page.read_text())
    if re.match(r"segue [a-z]", call) and not call.startswith("segue segue")
}


@pytest.mark.parametrize("call", NAMED)
def test_a_sentence_names_what_is_there(call: str) -> None:
    """A command, and options that it has; arguments may be left out there."""
    assert lacking(NAMED[call]) == []


def test_what_a_sentence_names_wrongly_is_noticed() -> None:
    """A command and an option that are not there; not what another program gets."""
    assert lacking("segue restrat") == ["restrat"]
    assert lacking("segue restart --cannary 3 --keep") == ["--cannary"]
    assert lacking("segue run --bind X -- server --reload") == []
    assert lacking("segue policy list --jsn") == ["--jsn"]


def test_the_documents_have_command_lines() -> None:
    """A page that is written in another way would not be looked at."""
    assert len(LINES) > 50


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_one_that_segue_takes(line: str) -> None:
    """Its command, its options and their values are there."""
    take(LINES[line])


def test_a_wrong_command_line_is_noticed() -> None:
    """A misspelt command, option and value."""
    for wrong in ("segue restrat", "segue restart --cannary 3", "segue scale many"):
        with pytest.raises(click.ClickException):
            take(of_segue(wrong)[0])


def test_the_calls_of_a_line_are_found() -> None:
    """Behind sudo, before a comment, and in what the probe runs."""
    line = "sudo segue probe http://x/ --during 'segue restart --now' # comment"
    during = ["restart", "--now"]
    assert of_segue(line) == [
        ["probe", "http://x/", "--during", " ".join(["segue", *during])],
        during,
    ]
    assert of_segue("make test") == []
