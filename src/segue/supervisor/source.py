"""Where the settings of ``segue run`` come from, and what their relative paths are relative to.

Paths are kept by name and never resolved: a deploy that switches a link such as ``current`` gives
the same name another meaning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from segue.errors import UsageError
from segue.supervisor.settings import read_file

CONFIG = "segue.toml"  # read from the directory of the start if it is there


def digest(data: bytes) -> str:
    """What tells one content of a file from another."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """One reading of the settings; ``start`` is the directory of ``segue run``, absolute."""

    start: str
    file: str = ""  # absolute; "" if no file was read
    digest: str = ""  # of what was read

    def changed(self) -> str:
        """The sentence about a file that is not as it was read; "" if it is.

        It compares the content: a deploy gives each file a new inode and a new time.
        """
        path = self.file or os.path.join(self.start, CONFIG)
        if not os.path.exists(path):
            return f"{path} is gone since the settings were read from it" if self.file else ""
        if not self.file:
            return f"{path} is new since the settings were read: segue reexec reads it"
        try:
            same = digest(read_file(path)) == self.digest
        except UsageError:
            same = False
        return "" if same else f"{path} has changed since it was read: segue reexec reads it"

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Any) -> Source:
        """The same again.  Raises KeyError, TypeError or AttributeError on foreign data."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: str(value) for name, value in plain.items() if name in known})


def started_in(environ: Mapping[str, str]) -> str:
    """The current directory by the name that the shell has for it, with the links in it.

    POSIX keeps that name in PWD.  A program that changes its directory and not the variable leaves
    a wrong one, so PWD counts only if it leads here.
    """
    name = environ.get("PWD", "")
    plain = os.path.isabs(name) and not {".", ".."} & set(name.split("/"))
    try:
        here = os.getcwd()
    except FileNotFoundError:  # removed: whatever has its name now is meant
        return name if plain else "/"
    try:
        return name if plain and os.path.samefile(name, here) else here
    except OSError:
        return here


def own_program() -> tuple[str, ...]:
    """What starts segue as this process was started, without its arguments."""
    return (sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1])


def where_it_leads(start: str) -> str | None:
    """The name if it leads to a directory; None, for the current directory, if not."""
    return start if start and os.path.isdir(start) else None


def go_where_it_leads(start: str) -> None:
    """Enter the directory that the name leads to now, so that new code finds its files there.

    If there is none, this process stays where it is.
    """
    with contextlib.suppress(OSError):
        os.chdir(start)
