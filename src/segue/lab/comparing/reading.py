"""What comes on a connection of a comparison, to a client or to a server."""

from __future__ import annotations

import socket

_LONGEST = 4096


def received(made: socket.socket) -> bytes | None:
    """What is there now; None for nothing yet, and b"" at the end or after an error."""
    try:
        return made.recv(_LONGEST)
    except BlockingIOError:
        return None
    except OSError:
        return b""
