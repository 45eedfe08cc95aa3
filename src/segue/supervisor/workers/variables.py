"""Variables that the settings give a worker: those of --env-file, and over them those of --env.

The file is read at each start of a worker, so that a restart brings what has changed in it.  It is
written as EnvironmentFile= of systemd.exec(5) wants it.  Where systemd leaves out a line that it
does not understand, the start is refused: a worker without its variable may do harm.
"""

from __future__ import annotations

import errno
import os
import re

from segue.errors import StartRefused, UsageError
from segue.linux.openat import open_trusted
from segue.supervisor.settings import Settings

_LONGEST_FILE = 1 << 16  # bytes; a process may have a few times as much in all
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOTHING = re.compile(r"[ \t\r]*(?:[#;][^\n]*)?(?:\n|\Z)")
_HEAD = re.compile(r"[ \t]*([^=\n]*?)[ \t]*=")
_SPACE = re.compile(r"[ \t\r]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"(?:[^\\\n]|\\.|\\\Z)*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TRAILING = re.compile(r"(?<!\\)[ \t\r]+\Z")


def given(settings: Settings) -> dict[str, str]:
    """Every variable that the settings name, as the file has it now.  Raises StartRefused."""
    found = read(settings.env_file) if settings.env_file else {}
    return found | {pair.partition("=")[0]: pair.partition("=")[2] for pair in settings.env}


def read(path: str) -> dict[str, str]:
    """The variables of a file that only root or this user could have written.

    Raises StartRefused with the file, and the line if one is wrong.
    """
    try:
        with open(open_trusted(path), "rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        if error.errno == errno.ENOENT:
            why = "is gone: put it back"
        raise StartRefused(f"workers get variables from {path}, which {why}") from None
    except UsageError as error:
        raise StartRefused(str(error)) from None
    if len(data) > _LONGEST_FILE:
        raise StartRefused(f"{path} is too large for variables: more than {_LONGEST_FILE} bytes")
    return parse(os.fsdecode(data), path)


def parse(text: str, path: str) -> dict[str, str]:
    """The variables in this text.  Raises StartRefused, naming the line of ``path``."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if nothing := _NOTHING.match(text, at):
            at = nothing.end()
            continue
        line = text.count("\n", 0, at) + 1
        head = _HEAD.match(text, at)
        # The text itself is not shown: it may be a password.
        if head is None:
            raise StartRefused(f"{path}, line {line}: this is not NAME=VALUE")
        if not _NAME.fullmatch(head[1]):
            raise StartRefused(
                f"{path}, line {line}: the name of a variable must consist of letters, digits and _"
                f" (got {head[1][:40]!r})"
            )
        try:
            found[head[1]], at = _value(text, head.end())
        except ValueError as error:
            raise StartRefused(f"{path}, line {line}: {error}") from None
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """A value and where it ends.  Raises ValueError with the reason."""
    value = ""
    while True:
        at = _match(_SPACE, text, at).end()
        if at == len(text) or text[at] == "\n":
            break
        if text[at] == "'":
            piece = _match(_SINGLE, text, at)
            value += piece[1]
        elif text[at] == '"':
            piece = _match(_DOUBLE, text, at)
            value += _ESCAPED.sub(_in_quotes, piece[1])
        else:
            piece = _match(_PLAIN, text, at)
            value += _ESCAPED.sub(_outside, _TRAILING.sub("", piece[0]))
        at = piece.end()
    if "\0" in value:
        raise ValueError("a value cannot have a zero byte")
    return value, at


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"the quote {text[at]} is not closed")
    return found


def _in_quotes(found: re.Match[str]) -> str:
    """As in a shell: before another character the backslash stays."""
    if found[1] == "\n":
        return ""
    return found[1] if found[1] in '"\\`$' else found[0]


def _outside(found: re.Match[str]) -> str:
    return "" if found[1] == "\n" else found[1]
