"""Why the kernel reset the connections of one port, from now on."""

from __future__ import annotations

import os
from collections import Counter
from typing import Self

from segue.linux.tracefs import Tracepoint


class Resets:
    """Counts the reasons of the tracepoint tcp_send_reset; none where we are not root."""

    def __init__(self, port: int) -> None:
        self._end = f":{port}"
        self._trace = Tracepoint("tcp", "tcp_send_reset", "reason") if os.geteuid() == 0 else None
        self._reasons: Counter[str] = Counter()

    def read(self) -> Counter[str]:
        """All so far; called often enough, the kernel's buffer does not overflow."""
        for event in self._trace.read() if self._trace is not None else ():
            if event.fields.get("src", "").endswith(self._end):
                self._reasons[event.fields.get("reason", "?")] += 1
        return self._reasons

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._trace is not None:
            self._trace.close()
