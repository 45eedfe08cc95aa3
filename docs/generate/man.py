"""The man pages of ``segue``, one a command, made of the same values as the page of commands.

``python -m docs.generate.man DIRECTORY`` writes them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.generate.commands import Command, commands

from segue.cli import probe
from segue.cli.main import EXIT_CODES
from segue.version import VERSION

# The commands whose exit codes have a meaning of their own.
_OWN_CODES = {"segue probe": probe.EXIT_CODES}


def roff(text: str) -> str:
    """Plain text as one line of roff that shows it as it is."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", "\\&", shown)


def _items(items: Sequence[tuple[str, str]]) -> list[str]:
    lines = []
    for name, text in items:
        lines += [".TP", f"\\fB{roff(name)}\\fR", roff(text)]
    return lines


def page(command: Command, others: Sequence[str]) -> str:
    """The man page of a command; ``others`` are the names of pages that it refers to."""
    title = command.name.replace(" ", "-")
    lines = [
        f'.TH "{title.upper()}" "1" "" "segue {VERSION}" "Segue"',
        ".SH NAME",
        f"{roff(title)} \\- {roff(command.summary)}",
        ".SH SYNOPSIS",
        roff(command.usage),
        ".SH DESCRIPTION",
    ]
    for text in command.paragraphs:
        lines += [".PP", roff(text)]
    if command.commands:
        lines += [".SH COMMANDS", *_items(command.commands)]
    lines += [".SH OPTIONS", *_items(command.options)]
    lines += [".SH EXIT STATUS", *_items(list(_OWN_CODES.get(command.name, EXIT_CODES).items()))]
    also = ", ".join(f"{roff(one)}(1)" for one in others if one != title)
    lines += [".SH SEE ALSO", also]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every man page by the name of its file."""
    every = list(commands())
    made = {}
    for one in every:
        title = one.name.replace(" ", "-")
        above, below = title.rpartition("-")[0], [f"{title}-{name}" for name, _ in one.commands]
        made[f"{title}.1"] = page(one, [*([above] if above else []), *below])
    return made


def main(directory: str) -> None:
    """Write them."""
    where = Path(directory)
    where.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (where / name).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
