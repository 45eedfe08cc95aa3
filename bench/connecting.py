"""A client that connects and goes away, as fast as it is let: python -m bench.connecting.

HOST PORT SECONDS AT_ONCE.  Each connection is ended by a reset as soon as it is there, so that
nothing but handshakes is measured.  What it found is one line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

_AT_ONCE = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")  # struct linger: reset at close
_WAITS = 1.0  # seconds; a lost SYN is repeated after one


class Connecting:
    """So many connections under way at once."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._epoll = select.epoll()
        self._under_way: dict[int, tuple[socket.socket, float]] = {}
        self.took: list[float] = []
        self.lost = 0

    def begin(self) -> None:
        """One more."""
        made = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        made.connect_ex(self._where)
        self._under_way[made.fileno()] = made, time.perf_counter()
        self._epoll.register(made, select.EPOLLOUT)

    def turn(self) -> int:
        """Take what is there or has failed; how many that were."""
        ready = self._epoll.poll(_WAITS)
        now = time.perf_counter()
        for descriptor, event in ready:
            made, begun = self._under_way.pop(descriptor)
            if event & select.EPOLLERR:
                self.lost += 1
            else:
                self.took.append(now - begun)
            made.close()
        return len(ready)


def main() -> None:
    """Until the time is over; what is under way then is not counted."""
    host, port, seconds, at_once = sys.argv[1:]
    client = Connecting(host, int(port))
    begun = time.perf_counter()
    for _ in range(int(at_once)):
        client.begin()
    while time.perf_counter() - begun < float(seconds):
        for _ in range(client.turn()):
            client.begin()
    spent = time.perf_counter() - begun
    took = sorted(client.took)
    found = {
        "attempts": len(took),
        "rate": len(took) / spent,
        "lost": client.lost,
        "p99_ms": took[len(took) * 99 // 100] * 1e3 if took else 0.0,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
