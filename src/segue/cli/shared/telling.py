"""How commands print: whatever somebody else chose is made visible on the way (segue.visible)."""

from __future__ import annotations

from typing import Any

import click
from rich.markup import escape

from segue.visible import as_json, paragraph, visible


def tell(text: str, *, err: bool = False) -> None:
    """A sentence; what it has more than one line is indented."""
    click.echo(paragraph(text), err=err)


def tell_lines(text: str) -> None:
    """Text of several lines that all stand for themselves."""
    for line in text.splitlines():
        click.echo(visible(line, tabs=True))


def tell_json(plain: Any, *, indent: int | None = None) -> None:
    """For programs, and fit for a terminal all the same."""
    click.echo(as_json(plain, indent=indent))


def cell(text: str) -> str:
    """For rich: neither its markup nor the terminal's."""
    return escape(visible(text))
