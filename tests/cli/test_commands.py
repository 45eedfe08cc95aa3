"""The table of commands, and the options that come from the settings."""

from __future__ import annotations

from pathlib import Path

import click

import segue.cli
from segue.cli.main import COMMANDS, cli
from segue.cli.run import run
from segue.supervisor.settings import CHOICES


def test_every_command_has_a_file_and_every_file_a_command() -> None:
    """Beside the table itself, the folder has one file for each command and nothing else."""
    files = {path.stem for path in Path(next(iter(segue.cli.__path__))).glob("*.py")}
    assert files - {"__init__", "main"} == set(COMMANDS)


def test_the_first_lines_of_help_fit_a_terminal() -> None:
    """In 80 columns, segue --help shows each command's first line whole."""
    with click.Context(cli, terminal_width=80, max_content_width=80) as context:
        table = cli.get_help(context).partition("Commands:")[2]
    assert "restart" in table
    assert "..." not in table


def test_choices_are_those_of_the_settings() -> None:
    """An option of segue run has exactly the values that its setting may have."""
    found = {
        one.name: tuple(one.type.choices)
        for one in run.params
        if isinstance(one.type, click.Choice)
    }
    assert found == CHOICES
