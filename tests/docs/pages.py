"""The pages of the documentation, and the command lines in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, its title, and its text."""

    language: str
    title: str
    text: str

    @property
    def lines(self) -> list[str]:
        """What is typed at the prompts, each without its prompt; continued lines are one."""
        found = re.sub(r"\\\n\s*", " ", self.text).splitlines()
        return [line[2:] for line in found if line.startswith(("$ ", "# "))]

    @property
    def printed(self) -> list[str]:
        """The other lines: what is seen."""
        return [line for line in self.text.splitlines() if not line.startswith(("$ ", "# "))]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page."""
    for one in _BLOCK.finditer(text):
        title = re.search(r'title="([^"]*)"', one[2])
        yield Block(one[1], title[1] if title else "", one[3])


def typed(text: str) -> list[str]:
    """The command lines of a page."""
    return [line for one in blocks(text) if one.language == "console" for line in one.lines]


def inline(text: str) -> list[str]:
    """What stands in the type of code within sentences and tables."""
    return [
        " ".join(one.split()) for one in re.findall(r"(?<!`)`([^`]+)`(?!`)", _BLOCK.sub("", text))
    ]
