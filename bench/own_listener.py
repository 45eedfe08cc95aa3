"""The asyncio example on a listener that it opens itself, with SO_REUSEPORT, once it can serve."""

from __future__ import annotations

import asyncio
import sys

from examples.asyncio_server import serve

from segue.address import Address
from segue.linux.sockopt import open_listener

if __name__ == "__main__":
    asyncio.run(serve(open_listener(Address.parse(sys.argv[1]), backlog=2048)))
