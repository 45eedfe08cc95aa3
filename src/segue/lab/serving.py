"""The model serves real clients over a TUN interface: two listeners in turn, restarted as often as
one likes, and a small web behind them.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import time
from collections.abc import Callable
from typing import BinaryIO

from segue.address import Address
from segue.errors import KernelError
from segue.linux.tun import Tun
from segue.model.connection import Connection
from segue.model.events import Acceptable, Readable, Writable
from segue.model.host import Host
from segue.model.listener import Listener
from segue.wire import pcap

_CHUNK = b"segue " * 10_000
# A browser shows it, asks for more while it does, and says in the title how much came.
_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>loading</title>
<p>This page came through a TCP in Python, whose listener may have been restarted meanwhile.</p>
<p>More of it: <a href="/1000000">/1000000</a>, a number of bytes.</p>
<script>
fetch("/1000000").then(it => it.text()).then(it => { document.title = it.length + " more"; });
</script>
</html>
"""
_LONGEST_REQUEST = 65536
_BACKLOG = 1024
_LOOK_UP_S = 0.2  # between looks at whether it is to end


class _Exchange:
    """One connection: what was asked so far, and how much of the answer is still to go."""

    __slots__ = ("asked", "at", "body", "connection", "head", "last", "left")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.asked = b""
        self.head = b""
        self.body = _CHUNK  # from the beginning again, as often as it takes
        self.at = self.left = 0
        self.last = False  # the connection ends with this answer


class Serving:
    """``GET /NUMBER`` is answered with so many bytes; any other path with a page."""

    def __init__(self, tun: Tun, address: Address, capture: BinaryIO | None = None) -> None:
        """Listens at once.  Whoever opened the capture file closes it."""
        self._tun, self._address, self._capture = tun, address, capture
        self.host = Host(address.host, secret=os.urandom(16))
        self.host.sysctls.tcp_migrate_req = 1
        self._exchanges: dict[int, _Exchange] = {}
        self._listener = self._open()
        self.served = self.restarts = 0
        self._asked = False
        if capture is not None:
            capture.write(pcap.header())

    def restart(self) -> None:
        """A new listener opens, the old one closes; no client notices."""
        old, self._listener = self._listener, self._open()
        self.host.close(time.monotonic(), old)
        self.restarts += 1

    def ask_restart(self) -> None:
        """Before the next packet: for a signal handler, which may run in the middle of a turn."""
        self._asked = True

    def run(self, over: Callable[[], bool], every_s: float | None = None) -> None:
        """Until it is over; with ``every_s`` the listener is restarted that often."""
        # The model keeps no cycles, and to look for some takes a tenth of the time: again and again
        # all that waits in TIME_WAIT is looked through.
        gc.disable()
        try:
            self._run(over, every_s)
        finally:
            gc.enable()

    def _run(self, over: Callable[[], bool], every_s: float | None) -> None:
        poll = select.poll()
        poll.register(self._tun, select.POLLIN)
        restart_at = None if every_s is None else time.monotonic() + every_s
        while not over():
            now = time.monotonic()
            due = [at for at in (self.host.deadline(), restart_at) if at is not None]
            pause = min([_LOOK_UP_S, *(max(0.0, at - now) for at in due)])
            poll.poll(pause * 1000)
            now = time.monotonic()
            if restart_at is not None and every_s is not None and now >= restart_at:
                self._asked = True
                restart_at = now + every_s
            if self._asked:
                self._asked = False
                self.restart()
            for _ in range(64):  # then timers and answers have their turn
                packet = self._tun.read()
                if packet is None:
                    break
                self._record(packet)
                self.host.receive(now, packet)
            self.host.advance(now)
            self._work(now)
            for packet in self.host.take():
                self._record(packet)
                self._tun.write(packet)

    def _open(self) -> Listener:
        made = self.host.socket()
        self.host.setsockopt(made, "SO_REUSEPORT", 1)
        self.host.setsockopt(made, "TCP_NODELAY", 1)
        self.host.bind(made, self._address)
        self.host.listen(made, _BACKLOG)
        # What is asked is answered at once: the ACK goes with the answer, as with HAProxy
        # (tcp-smart-accept).  Set before, listen() forgets it.
        self.host.setsockopt(made, "TCP_QUICKACK", 0)
        return made

    def _record(self, packet: bytes) -> None:
        if self._capture is not None:
            self._capture.write(pcap.record(time.time_ns(), packet))

    def _work(self, now: float) -> None:
        for event in self.host.events():
            if isinstance(event, Acceptable) and event.listener == self._listener.cookie:
                self._accept(now)
            elif isinstance(event, Readable | Writable) and event.connection in self._exchanges:
                self._serve(now, self._exchanges[event.connection])

    def _accept(self, now: float) -> None:
        while self._listener.queue:
            made = _Exchange(self.host.accept(self._listener))
            self._exchanges[made.connection.cookie] = made
            # Of what has come already nobody tells; most have asked nothing yet.
            if self.host.more(made.connection) or made.connection.over:
                self._serve(now, made)

    def _serve(self, now: float, exchange: _Exchange) -> None:
        try:
            self._answer(now, exchange)
            while not exchange.left and not exchange.head:
                if exchange.last:
                    self._end(now, exchange)
                    return
                data = self.host.read(now, exchange.connection)
                exchange.asked += data
                if not data or len(exchange.asked) > _LONGEST_REQUEST:
                    self._end(now, exchange)
                    return
                self._answer(now, exchange)
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                self._end(now, exchange)

    def _answer(self, now: float, exchange: _Exchange) -> None:
        if not exchange.left and not exchange.head and b"\r\n\r\n" in exchange.asked:
            head, _, exchange.asked = exchange.asked.partition(b"\r\n\r\n")
            path = (head.split(b" ", 2)[1:2] or [b""])[0].removeprefix(b"/")
            number = path.isdigit() and len(path) < 12
            exchange.body = _CHUNK if number else _PAGE
            exchange.at, exchange.left = 0, int(path) if number else len(_PAGE)
            exchange.last = b"\r\nconnection: close" in head.lower()
            exchange.head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
                % (
                    b"text/plain" if number else b"text/html",
                    exchange.left,
                    b"Connection: close\r\n" if exchange.last else b"",
                )
            )
            self.served += 1
        while exchange.head or exchange.left:
            at = exchange.at % len(exchange.body)
            head, body = exchange.head, exchange.body[at : at + exchange.left]
            # The end follows the last answer at once, and goes in one packet with its data.
            taken = self.host.write(now, exchange.connection, head + body, more=exchange.last)
            exchange.head = head[taken:]
            taken = max(0, taken - len(head))
            exchange.at += taken
            exchange.left -= taken

    def _end(self, now: float, exchange: _Exchange) -> None:
        del self._exchanges[exchange.connection.cookie]
        self.host.close(now, exchange.connection)
