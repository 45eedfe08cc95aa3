"""A server that keeps every connection until its client or SIGTERM ends it, on descriptor 3.

It imports next to nothing, so that 64 of them start quickly.  ``GET /N`` is answered after N
seconds, with the pid.  On SIGTERM it takes what its accept queue has, closes the connections that
are owed nothing, answers the others, and ends.
"""

import os
import select
import signal
import socket
import time

_BODY = f"{os.getpid()}\n".encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_MOST_AT_ONCE = 256


class Keeping:
    """The connections, and which of them are owed an answer."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.kept: dict[int, socket.socket] = {}
        self.owed: dict[int, float] = {}  # when to answer
        self.epoll = select.epoll()
        self.epoll.register(listener, select.EPOLLIN)

    def turn(self, stop: int) -> None:
        """Wait for something and take it; ``stop`` is readable once the server must end."""
        now = time.monotonic()
        due = [number for number, when in self.owed.items() if when <= now]
        for number in due:
            del self.owed[number]
            self.kept[number].send(_ANSWER)
        soonest = min(self.owed.values(), default=None)
        for number, _ in self.epoll.poll(None if soonest is None else max(0.0, soonest - now)):
            if number == self.listener.fileno():
                self.accept()
            elif number != stop:
                self.read(number)

    def accept(self) -> None:
        """Take what waits."""
        for _ in range(_MOST_AT_ONCE):
            try:
                made, _ = self.listener.accept()
            except BlockingIOError:
                return
            made.setblocking(False)
            self.kept[made.fileno()] = made
            self.epoll.register(made, select.EPOLLIN)

    def read(self, number: int) -> None:
        """A request, or the end of the connection."""
        try:
            asked = self.kept[number].recv(4096)
        except OSError:
            asked = b""
        if not asked:
            self.owed.pop(number, None)
            self.kept.pop(number).close()
            return
        wait = float(asked.split(b" ")[1][1:] or 0)
        if wait:
            self.owed[number] = time.monotonic() + wait
        else:
            self.kept[number].send(_ANSWER)

    def end(self) -> None:
        """Close what is owed nothing."""
        for number in self.kept.keys() - self.owed.keys():
            self.kept.pop(number).close()


def main() -> None:
    """Serve until SIGTERM, then finish."""
    listener = socket.socket(fileno=3)
    listener.setblocking(False)
    told, tells = socket.socketpair()
    for side in (told, tells):
        side.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(tells.fileno())
    keeping = Keeping(listener)
    keeping.epoll.register(told, select.EPOLLIN)
    stopping = False
    while not stopping:
        keeping.turn(told.fileno())
        try:
            stopping = bool(told.recv(1))
        except BlockingIOError:
            continue
    keeping.epoll.unregister(told)
    keeping.accept()
    keeping.epoll.unregister(listener)
    listener.close()
    keeping.end()
    while keeping.kept:
        keeping.turn(-1)
        keeping.end()


if __name__ == "__main__":
    main()
