"""The file that the lines of an instance go to (``--output-file``), opened by name again and again.

It takes the place of stdout and stderr, so that everything goes there: lines of the supervisor and
of workers, a traceback, and what workers print themselves with ``--output raw``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from segue.errors import UsageError
from segue.linux import openat


def redirect(
    path: str, trusted: Collection[int], farewell: Callable[[], None] = lambda: None
) -> None:
    """Print into this file from now on.  Raises UsageError, with nothing changed, if it cannot be.

    It may belong to one of the ``trusted`` users.  ``farewell`` prints the last words that do not
    go there.
    """
    try:
        opened = openat.open_to_append(path, trusted, 0o640)
    except OSError as error:
        raise UsageError(f"--output-file {path} cannot be opened: {error.strerror}") from None
    farewell()
    for stream in (1, 2):
        os.dup2(opened, stream)
    os.close(opened)
