"""The history of an instance: a file of events beside its record, which no stop removes.

One line of JSON is one event, or what has become of one by then.  The file is bounded: when it is
full it becomes the older half, and the older half before is forgotten.
"""

from __future__ import annotations

import contextlib
import json
import os

from segue import strict_json
from segue.errors import UsageError
from segue.linux import openat
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.chronicle import Event

# Bytes of one half.  A restart takes about 1 kB: so the last 250 restarts are there at least.
MOST = 1 << 18


class History:
    """Writes the events of one instance."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def write(self, event: Event) -> None:
        """Add what is known of this event now.  Raises OSError, and UsageError as ``openat``."""
        line = json.dumps(event.to_json()).encode() + b"\n"
        with openat.around(self._paths.history) as (here, name):
            found = here.look(name)
            if found is not None and found.st_size + len(line) > MOST:
                here.rename(name, os.path.basename(self._paths.older_history))
            made = here.file(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with open(made, "ab", buffering=0) as file:
                file.write(line)


def read(paths: Paths) -> list[Event]:
    """Every event that is kept, each once, in the order in which they began.

    Lines that are not events, such as one that a full disk cut, are left out.
    """
    found: dict[str, Event] = {}
    for path in (paths.older_history, paths.history):
        for line in _lines(path):
            with contextlib.suppress(ValueError):
                event = Event.from_json(strict_json.loads(line))
                found[event.key] = event
    return sorted(found.values(), key=lambda event: event.at)


def _lines(path: str) -> list[bytes]:
    try:
        with openat.around(path) as (here, name), open(here.file(name, os.O_RDONLY), "rb") as file:
            return file.read(2 * MOST).splitlines()
    except (OSError, UsageError):
        return []
