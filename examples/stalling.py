"""Servers that stall on command: at SIGUSR2 the serving thread sleeps or computes, as STALL says.

``STALL=spin:0.4`` computes for 0.4 s; the default is ``sleep:1``.  There are an ASGI and a WSGI
application, and the asyncio example, if this file is run as a program.  They accept nothing
meanwhile:

    segue run --bind 127.0.0.1:8080 --workers 2 -- python -m examples.stalling
    segue run --bind 127.0.0.1:8080 --workers 2 -- uvicorn examples.stalling:app --fd '{fd}'
    segue run --bind 127.0.0.1:8080 --workers 2 -- gunicorn -b 'fd://{fd}' examples.stalling:wsgi
    kill -USR2 PID    # of a worker, as segue status shows it

With an address, the asyncio example opens its own listener there, with SO_REUSEPORT.  Start it
twice, and start segue rescue for the same address:

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
    """Return when the time is over, and not before."""
    how, _, seconds = os.environ.get("STALL", "sleep:1").partition(":")
    until = time.monotonic() + float(seconds)
    if how == "sleep":
        time.sleep(float(seconds))
    while time.monotonic() < until:
        pass


# Python runs the handler in the main thread, which is the serving thread in all three.
signal.signal(signal.SIGUSR2, stall)


def alone(address: str) -> None:
    """Serve at this HOST:PORT until told to end, on a listener that shares its address."""
    host, _, port = address.rpartition(":")
    listener = socket.create_server((host, int(port)), reuse_port=True)
    asyncio.run(serve(listener))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        alone(sys.argv[1])
    else:
        sys.exit(main())
