"""The client: opens connections at a pace and reports the fate of each.

One thread, one epoll instance, non-blocking sockets, no event loop beside its own: a probe that
is slower than what it measures measures itself.  Facts are gathered here, ``fates`` decides.

After a whole answer that announced a close, the server gets the time to close first.  The side
that closes first keeps the port in TIME-WAIT, and a client that connects thousands of times a
second would run out of ports.
"""

from __future__ import annotations

import os
import select
import socket
import time
from math import inf

from segue.errors import UsageError
from segue.probe import reading, websocket_session
from segue.probe.connection import Connection, Dialer, source
from segue.probe.exchange import Reader
from segue.probe.fates import End, Ended, Fate, Stage, decide
from segue.probe.handshake import shake
from segue.probe.pipelining import pipelined
from segue.probe.progress import Step
from segue.probe.result import Result, Tally
from segue.probe.schedule import Timeouts
from segue.probe.settings import Settings
from segue.probe.tls import TlsSocket
from segue.probe.websocket import WebSocketReader

# How long a server may take to close after an answer with "Connection: close".
LINGER_S = 1.0
# A stop asked for by a signal handler or another thread is seen this soon.
GLANCE_S = 0.1
# What is due within the duration may still begin this much after it; beyond that this machine or
# max_open cannot keep the pace, and the run would last as long as the backlog.
GRACE_S = 1.0
# Opened in a row before answers are looked at again: 16 take about a millisecond.
BATCH = 16
CHUNK = 16384
# Addresses of reset connections that are kept to be matched with the kernel's trace: 8 MB.
RESETS = 100_000
EVENTS = 256
# select() takes no higher descriptor.
FD_SETSIZE = 1024


class Client:
    """Runs once.  Not thread-safe, but for ``stop``.

    Raises UsageError when the target's zone is no interface of this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._exchange = settings.exchange
        self._dialer = Dialer(settings)
        self._version = settings.version_field.lower().encode()
        self._stopped = False
        self.tally: Tally | None = None
        self._busy = 0
        self._blocked = -inf
        self._ended: float | None = None
        self._connections: dict[int, Connection] = {}
        self._kept: dict[int, Connection] = {}
        self._connecting: Timeouts[Connection] = Timeouts(settings.connect_timeout_s)
        self._answering: Timeouts[Connection] = Timeouts(settings.response_timeout_s)
        self._pausing: Timeouts[Connection] = Timeouts(settings.pause_s)
        self._lingering: Timeouts[Connection] = Timeouts(LINGER_S)
        upload = settings.exchange.upload
        self._uploading: Timeouts[Connection] = Timeouts(upload.every_s if upload else 0)

    def stop(self) -> None:
        """Begin nothing more; ``run`` returns once what is under way has ended."""
        self._stopped = True

    def run(self, *, until_closed: int | None = None) -> Result:
        """Run to the end and return what was found.

        ``until_closed`` is a pipe, a socket or a terminal: when its other end is closed, the run
        ends as by ``stop``.  Raises UsageError when it is none of these.  What happens to
        connections is never raised: it is counted.
        """
        settings = self._settings
        began, start = time.time(), time.monotonic()
        self._last_begun = start
        self.tally = self._tally = tally = Tally(start)
        self._schedule = settings.pace.begin(start, settings.duration_s, settings.count)
        self._deadline = start + (settings.duration_s or inf) + GRACE_S
        with select.epoll() as self._epoll:
            if until_closed is not None:
                self._watch(until_closed)
            try:
                while self._turn(until_closed):
                    pass
            finally:
                for connection in list(self._connections.values()):
                    websocket_session.leave(connection)
                    self._close(connection)
        until = self._ended or self._last_begun
        if settings.duration_s and tally.begun != settings.count and not self._stopped:
            until = max(until, start + settings.duration_s)
        return tally.result(
            target=str(settings.target),
            load=str(settings.pace),
            began=began,
            until=until,
            events=settings.keep_events,
        )

    def _watch(self, descriptor: int) -> None:
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError as error:
            raise UsageError(
                f"descriptor {descriptor} cannot say when it is closed ({error.strerror});"
                " it must be a pipe, a socket or a terminal"
            ) from error

    def _turn(self, until_closed: int | None) -> bool:
        """Expire, begin what is due, wait, read.  False when all is over."""
        schedule = self._schedule
        now = time.monotonic()
        if self._stopped:
            schedule.stop(now)
            self._ended = self._ended or now
        elif now > self._deadline:
            self._tally.unbegun += schedule.stop(now)
        self._expire(now)
        for _ in range(BATCH):
            if schedule.next > now:
                break
            if not self._room():
                self._blocked = now
                break
            self._begin(now)
            now = time.monotonic()
        if schedule.next == inf and not self._busy:
            return False
        for fd, events in self._poll(self._until(now) - now):
            connection = self._connections.get(fd)
            if connection is not None:
                self._ready(connection, events, self._now)
            elif fd == until_closed and not os.read(fd, CHUNK):
                self._epoll.unregister(fd)
                self._stopped = True
        return True

    def _until(self, now: float) -> float:
        return min(
            now + GLANCE_S,
            # While there is no room, only an event or the end of a wait can make some.
            self._schedule.next if self._blocked != now else inf,
            self._connecting.deadline(),
            self._answering.deadline(),
            self._pausing.deadline(),
            self._lingering.deadline(),
            self._uploading.deadline(),
        )

    def _poll(self, wait: float) -> list[tuple[int, int]]:
        # epoll_wait(2) counts in milliseconds, which would make an attempt up to one late;
        # select(2) counts in microseconds, and an epoll instance is a descriptor like any other.
        if wait > 0 and self._epoll.fileno() < FD_SETSIZE:
            select.select([self._epoll], [], [], wait)
            wait = 0
        found = self._epoll.poll(max(0, wait), EVENTS)
        # One instant for all: those read last were ready as early as those read first.
        self._now = time.monotonic()
        return found

    def _expire(self, now: float) -> None:
        for connection in self._connecting.expired(now):
            self._end(connection, End.TIMEOUT, "the connect timeout passed", now)
        for connection in self._answering.expired(now):
            self._end(connection, End.TIMEOUT, "the response timeout passed", now)
        for connection in self._pausing.expired(now):
            self._speak(connection, now)
        for connection in self._uploading.expired(now):
            self._continue(connection, now)
        for connection in self._lingering.expired(now):
            self._close(connection)

    def _room(self) -> bool:
        if len(self._connections) < self._settings.max_open:
            return True
        oldest = self._lingering.oldest()
        if oldest is None:
            return False
        self._close(oldest)
        return True

    def _begin(self, now: float) -> None:
        planned = self._schedule.next
        due, lane, requests = self._schedule.take()
        self._busy += 1
        self._last_begun = now
        if planned > self._blocked:
            self._tally.late.extend([now - planned] * requests)
        else:
            self._tally.held_back += requests
        if lane in self._kept:
            # A close that has come already is the server's word in time: no client would send now.
            self._read(self._kept[lane], now)
        kept = self._kept.pop(lane, None)
        if kept is None:
            self._open(due, lane, requests, now)
        else:
            kept.again(self._exchange, due, requests)
            self._send(kept, now)

    def _open(self, due: float, lane: int, requests: int, now: float) -> None:
        sock, code = self._dialer.dial()
        if sock is None:
            end, note = Ended.by_errno(code)
            for _ in range(requests):
                fate = decide(Stage.CALLING, end)
                self._tally.failed(fate, due, now, reused=False, note=note)
            self._over(lane, now, ok=False)
            return
        connection = Connection(sock, due, lane, self._exchange, self._settings.tls, requests)
        self._connections[connection.fd] = connection
        self._tally.most_open = max(self._tally.most_open, len(self._connections))
        # On loopback the handshake is over when connect() returns: one wait less for each.
        if connection.unsent and not self._settings.pause_s and not self._settings.tls:
            self._send(connection, now)
        else:
            self._wait_to_connect(connection, now)

    def _wait_to_connect(self, connection: Connection, now: float) -> None:
        self._move(connection, self._connecting, now)
        self._want(connection, select.EPOLLOUT)

    def _want(self, connection: Connection, interest: int) -> None:
        if connection.interest == interest:
            return
        if connection.interest:
            self._epoll.modify(connection.fd, interest)
        else:
            self._epoll.register(connection.fd, interest)
        connection.interest = interest

    def _move(self, connection: Connection, to: Timeouts[Connection] | None, now: float) -> None:
        if connection.waits is not None:
            connection.waits.discard(connection)
        connection.waits = to
        if to is not None:
            to.add(connection, now)

    def _ready(self, connection: Connection, events: int, now: float) -> None:
        if connection.waits is self._lingering:
            self._close(connection)
        elif connection.stage is Stage.CONNECTING:
            code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._end(connection, *Ended.by_errno(code), now)
                return
            if self._settings.tls:
                connection.advance(Step.HANDSHAKE)
                self._move(connection, self._answering, now)
                self._shake(connection, now)
            else:
                self._connected(connection, now)
        elif connection.stage is Stage.HANDSHAKE:
            self._shake(connection, now)
        elif events & ~select.EPOLLOUT:
            self._read(connection, now)
        else:
            self._send(connection, now)

    def _shake(self, connection: Connection, now: float) -> None:
        sock = connection.sock
        assert isinstance(sock, TlsSocket)
        over = shake(sock)
        if isinstance(over, Ended):
            self._end(connection, *over, now)
        elif over:
            self._tally.certificate(sock.certificate, now)
            self._connected(connection, now)
        else:
            self._want(connection, select.EPOLLIN | (select.EPOLLOUT if sock.unsent else 0))

    def _connected(self, connection: Connection, now: float) -> None:
        connection.advance(Step.CONNECTED)
        if self._settings.pause_s:
            self._move(connection, self._pausing, now)
            self._want(connection, select.EPOLLIN)
        else:
            self._speak(connection, now)

    def _speak(self, connection: Connection, now: float) -> None:
        """Connected, and the pause is over."""
        self._move(connection, self._answering, now)
        if connection.unsent:
            self._send(connection, now)
            return
        self._want(connection, select.EPOLLIN)
        if connection.reader.complete:
            self._end(connection, End.COMPLETE, "", now)

    def _send(self, connection: Connection, now: float) -> None:
        while True:
            try:
                sent = connection.sock.send(connection.unsent)
            except BlockingIOError:
                if connection.stage is Stage.CONNECTING:
                    self._wait_to_connect(connection, now)
                else:
                    self._want(connection, select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError as error:
                if connection.stage in {Stage.SENT, Stage.ANSWERING}:
                    # What was answered before the reset is still there to be read (tcp_reset
                    # purges only what is to be sent); the end comes after it.
                    connection.broken = Ended.by(error)
                    self._want(connection, select.EPOLLIN)
                    return
                reopen = not connection.stage.asked
                self._end(connection, *Ended.by(error), now)
                if reopen:
                    # The server closed first and we could tell before anything was sent: the
                    # request goes on a new connection, as any HTTP client would send it.
                    self._open(connection.due, connection.lane, connection.left, now)
                return
            connection.unsent = connection.unsent[sent:]
            if connection.waits is not self._answering:
                self._move(connection, self._answering, now)
            connection.advance(Step.SENT)
            if connection.unsent:
                self._want(connection, select.EPOLLIN | select.EPOLLOUT)
                return
            if connection.pieces or not connection.behind:
                break
            connection.follow(self._exchange)
        self._want(connection, select.EPOLLIN)
        if connection.reader.complete:
            self._end(connection, End.COMPLETE, "", now)
        elif connection.pieces:
            self._move(connection, self._uploading, now)

    def _continue(self, connection: Connection, now: float) -> None:
        """The next piece of an upload is due."""
        upload = self._exchange.upload
        assert upload
        connection.unsent = upload.piece(connection.pieces)
        connection.pieces -= 1
        self._move(connection, self._answering, now)
        self._send(connection, now)

    def _read(self, connection: Connection, now: float) -> None:
        found = reading.read(connection, pausing=connection.waits is self._pausing)
        while found:
            if found.end is End.EOF and connection.broken:
                found = connection.broken
            self._end(connection, *found, now)
            found = reading.behind(connection)

    def _end(self, connection: Connection, end: End, note: str, now: float) -> None:
        """The oldest request on this connection is over, or the idle connection is."""
        asked = connection.stage.asked
        fate = decide(connection.stage, end)
        if fate is Fate.OK:
            self._answered(connection, now)
            return
        if end is End.CLOSE and isinstance(connection.reader, WebSocketReader):
            self._tally.closes[connection.reader.closed] += 1
        again = self._unanswered(connection, fate, end, now, note)
        # The lane may have moved on to another connection.
        if self._kept.get(connection.lane) is connection:
            del self._kept[connection.lane]
        self._close(connection)
        if again:
            self._repeat(connection, again, now)
        elif asked:
            self._over(connection.lane, now, ok=False)

    def _unanswered(
        self, connection: Connection, fate: Fate, end: End, now: float, note: str
    ) -> int:
        """Count what was out; how many requests go again, on another connection."""
        asked = connection.stage.asked
        fates, again = [fate], 0
        if asked and self._settings.pace.requests > 1:
            fates, again = pipelined(connection, fate, end, self._exchange)
        if not fates:
            return again
        whence = source(connection.sock) if fate.lost else None
        if whence and end in {End.RESET, End.REFUSED} and len(self._tally.reset_from) < RESETS:
            self._tally.reset_from.append(whence)
        if fate not in self._tally.examples:
            note = f"{note or end.value}, {connection.stage.value}"
            note += f", from {whence[0]} port {whence[1]}" if whence else ""
            if connection.stage is Stage.ANSWERING:
                self._tally.heard(fate, connection.heard)
        due, reused = connection.due if asked else now, connection.served > 0
        for one in fates:
            self._tally.failed(one, due, now, reused=reused, note=note)
        return again

    def _answered(self, connection: Connection, now: float) -> None:
        tally, reader = self._tally, connection.reader
        tally.answered(connection.due, now)
        tally.statuses[reader.status] += 1
        if self._version:
            tally.version(reader.field(self._version).decode("latin-1"), now)
        connection.served += 1
        connection.owed -= 1
        if connection.left:
            self._next(connection, reader, now)
            return
        if self._exchange.keep_alive and reader.reusable and not connection.writing:
            connection.advance(Step.HELD if self._exchange.held else Step.KEPT)
            self._move(connection, None, now)
            self._kept[connection.lane] = connection
        elif reader.closing:
            self._move(connection, self._lingering, now)
        else:
            self._close(connection)
        self._over(connection.lane, now, ok=True)

    def _next(self, connection: Connection, answered: Reader, now: float) -> None:
        """One of several requests was answered: wait for the next answer, or ask elsewhere."""
        if answered.closing or not connection.owed:
            # Told that nothing behind is processed; or the answer came before its request was
            # whole, and what is behind that was never sent.
            self._close(connection)
            self._repeat(connection, connection.left, now)
            return
        begun = connection.owed > 1 or connection.unsent is not self._exchange.request
        connection.advance(Step.NEXT_BEGUN if begun else Step.NEXT_WAITS)
        connection.reader = self._exchange.reader()
        connection.surplus = answered.surplus
        if connection.waits is not self._uploading:
            self._move(connection, self._answering, now)

    def _repeat(self, connection: Connection, requests: int, now: float) -> None:
        self._tally.repeated += requests
        self._open(connection.due, connection.lane, requests, now)

    def _over(self, lane: int, now: float, *, ok: bool) -> None:
        self._busy -= 1
        self._schedule.done(lane, now, ok=ok)

    def _close(self, connection: Connection) -> None:
        self._move(connection, None, 0)
        del self._connections[connection.fd]
        connection.sock.close()
