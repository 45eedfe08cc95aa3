"""The policy that a name or a file means."""

from __future__ import annotations

import importlib.util
import linecache
import traceback
from typing import Any

from segue.errors import SegueError, UsageError
from segue.linux.openat import open_trusted
from segue.policy.compile import Compiled, compile_policy
from segue.policy.library import LIBRARY
from segue.policy.plain import Policy

_LARGEST = 1 << 20  # bytes of a policy's file


def find(text: str) -> Policy:
    """The policy of ``FILE.py:NAME``, or of the library; the file is run as Python.

    Raises UsageError when there is none, when others than root and this user could have written
    the file, and when it fails.
    """
    file, colon, name = text.rpartition(":")
    if not colon:
        if text in LIBRARY:
            return LIBRARY[text]
        raise UsageError(
            f"there is no policy {text!r}: write FILE.py:NAME, or one of {', '.join(LIBRARY)}"
        )
    try:
        with open(open_trusted(file), "rb") as opened:
            data = opened.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise UsageError(f"{file} has more than {_LARGEST} bytes, as no policy has")
    try:
        space = _run(file, data)
    except SegueError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the user's own code does
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else last.lineno
        raise UsageError(
            f"{file}: line {line}: {type(error).__name__}: {error}; a policy's file is run as"
            " Python before the policy is compiled"
        ) from None
    found = space.get(name)
    if not isinstance(found, Policy):
        named = [key for key, value in space.items() if isinstance(value, Policy)]
        has = f"it has {', '.join(named)}" if named else "it has none: write @policy above one"
        raise UsageError(f"{file} has no policy {name!r}; {has}")
    return found


def _run(file: str, data: bytes) -> dict[str, Any]:
    source = importlib.util.decode_source(data)
    # The functions are compiled from what was run, whatever the file holds by then.
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    space: dict[str, Any] = {"__name__": "policy", "__file__": file}
    exec(compile(source, file, "exec", dont_inherit=True), space)  # noqa: S102  it is the user's
    return space


def compiled(text: str, *, traced: bool = False) -> Compiled:
    """The same as a program.  Raises as ``find``, and PolicyError with the place."""
    return compile_policy(find(text), traced=traced)
