r"""Servers that can be made slow: a request takes WORK seconds, or SLOW times that.

Each SIGUSR2 switches between the two, so that one of several workers can be slow for any time.  The
defaults are ``WORK=0.01 SLOW=4``.  There are a WSGI application, for one request at a time, and the
asyncio example, if this file is run as a program.  There each request blocks the loop:

    segue run --bind 127.0.0.1:8080 --workers 4 --balance queue -- \
        gunicorn -b 'fd://{fd}' examples.uneven:wsgi
    segue run --bind 127.0.0.1:8080 --workers 4 --balance queue -- python -m examples.uneven
    kill -USR2 PID    # of a worker, as segue status shows it
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from examples import asyncio_server, hello_wsgi


class Work:
    """The time that each request takes in this process."""

    def __init__(self) -> None:
        self.seconds = float(os.environ.get("WORK", "0.01"))
        self.times = float(os.environ.get("SLOW", "4"))
        self.slow = False

    def turn(self, *_: object) -> None:
        """Switch between slow and normal."""
        self.slow = not self.slow

    def do(self) -> None:
        """Sleep for the time of a request, which takes the same time on busy processors."""
        time.sleep(self.seconds * (self.times if self.slow else 1))


work = Work()
signal.signal(signal.SIGUSR2, work.turn)


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer when the work is done."""
    work.do()
    return hello_wsgi.app(environ, start_response)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same for asyncio.  Nothing else happens in this process meanwhile."""
    work.do()
    await asyncio_server.answer(reader, writer)


if __name__ == "__main__":
    sys.exit(asyncio_server.main(answer))
