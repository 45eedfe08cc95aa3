"""The policy that a name or a file means."""

from __future__ import annotations

import runpy
import traceback

from segue.errors import SegueError, UsageError
from segue.policy.compile import Compiled, compile_policy
from segue.policy.library import LIBRARY
from segue.policy.plain import Policy


def find(text: str) -> Policy:
    """The policy of ``FILE.py:NAME``, or of the library; the file is run as Python.

    Raises UsageError when there is none, and when the file fails.
    """
    file, colon, name = text.rpartition(":")
    if not colon:
        if text in LIBRARY:
            return LIBRARY[text]
        raise UsageError(
            f"there is no policy {text!r}: write FILE.py:NAME, or one of {', '.join(LIBRARY)}"
        )
    try:
        space = runpy.run_path(file)
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename}: there is no such file") from None
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


def compiled(text: str, *, traced: bool = False) -> Compiled:
    """The same as a program.  Raises as ``find``, and PolicyError with the place."""
    return compile_policy(find(text), traced=traced)
