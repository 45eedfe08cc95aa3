"""How commands print: text from other sources is made visible first (segue.visible)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from segue.cli.shared import progress
from segue.errors import KernelError
from segue.visible import as_json, paragraph, visible


def tell(text: str, *, err: bool = False) -> None:
    """Print a sentence.  Its lines after the first are indented."""
    progress.clear()
    click.echo(paragraph(text), err=err)


def tell_lines(text: str) -> None:
    """Print several independent lines."""
    for line in text.splitlines():
        click.echo(visible(line, tabs=True))


def tell_json(plain: Any, *, indent: int | None = None) -> None:
    """Print JSON for programs, which is also safe for a terminal."""
    click.echo(as_json(plain, indent=indent))


def cell(text: str) -> str:
    """Text for rich, without markup and without escapes for the terminal."""
    return escape(visible(text))


def write_page(file: str, text: str) -> None:
    """Write a page or a picture to a file that the user has named.  Raises KernelError."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise KernelError("open", error.errno or 0, f"writing {file}") from error
