"""Servers that stall when told to: at SIGUSR2 the thread that serves sleeps or computes, for STALL.

``STALL=spin:0.4`` computes for 0.4 s; the default is ``sleep:1``.  An ASGI and a WSGI application,
and, run as a program, the asyncio example, each of which accepts nothing meanwhile:

    segue run --bind 127.0.0.1:8080 --workers 2 -- python -m examples.stalling
    segue run --bind 127.0.0.1:8080 --workers 2 -- uvicorn examples.stalling:app --fd '{fd}'
    segue run --bind 127.0.0.1:8080 --workers 2 -- gunicorn -b 'fd://{fd}' examples.stalling:wsgi
    kill -USR2 PID    # of a worker, as segue status shows it

With an address the asyncio example opens a listener of its own there, with SO_REUSEPORT; start it
twice, and segue rescue beside it:

    python -m examples.stalling 127.0.0.1:8080
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time

from examples.asyncio_server import main, serve
from examples.hello import app
from examples.hello_wsgi import app as wsgi

__all__ = ["app", "wsgi"]


def stall(*_: object) -> None:
    """Come back when the time is over, and not before."""
    how, _, seconds = os.environ.get("STALL", "sleep:1").partition(":")
    until = time.monotonic() + float(seconds)
    if how == "sleep":
        time.sleep(float(seconds))
    while time.monotonic() < until:
        pass


# Python runs it in the main thread, which is the one that serves in all three.
signal.signal(signal.SIGUSR2, stall)


def alone(address: str) -> None:
    """Serve at this HOST:PORT until told to end, on a listener that others may stand beside."""
    host, _, port = address.rpartition(":")
    listener = socket.create_server((host, int(port)), reuse_port=True)
    asyncio.run(serve(listener))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        alone(sys.argv[1])
    else:
        sys.exit(main())
