"""The model as a side: its clock is moved by the script, and a call that waits is tried again
whenever something has happened.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from dataclasses import dataclass, fields

from segue.address import Address
from segue.errors import KernelError, UsageError
from segue.lab.packetdrill.calls import Ask, events_told
from segue.lab.packetdrill.side import Outcome, Sent
from segue.lab.packetdrill.speaker import SERVER_PORT
from segue.model import cookies
from segue.model.connection import Connection
from segue.model.events import Acceptable, Readable, Writable
from segue.model.host import Host
from segue.model.listener import Listener
from segue.model.sysctls import Sysctls

_START = 1000.0  # of the model's clock, which must not begin at 0
_READING = socket.MSG_DONTWAIT
_WRITING = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL | socket.MSG_MORE
# Settings that change nothing in the model, whatever they are: it does not pace, and nothing stays
# in a queue of its own host.
_NO_MATTER = {
    "tcp_syn_retries", "tcp_fack", "tcp_tso_win_divisor", "tcp_pacing_ss_ratio",
    "tcp_pacing_ca_ratio", "tcp_autocorking",
}  # fmt: skip
# Those that are so in the model, and only so.
_FIXED = {
    "tcp_dsack": {"1"}, "tcp_reordering": {"3"}, "tcp_congestion_control": {"reno"},
    "tcp_early_retrans": {"3", "4"}, "tcp_recovery": {"1"}, "tcp_frto": {"1", "2"},
}  # fmt: skip
_ALWAYS = select.POLLERR | select.POLLHUP  # told without being asked for
_KNOWN = {one.name for one in fields(Sysctls)}


_Answer = int | tuple[int, str] | None


@dataclass(slots=True)
class _File:
    """What a descriptor stands for."""

    sock: Listener | Connection
    blocks: bool
    written: int = 0  # of a write that waits for room
    stalled: bool = False  # it is woken when there is much, and not at once when there is some


@dataclass(slots=True)
class _Watched:
    events: int
    fresh: bool = True  # something has happened since it was reported (EPOLLET)


class ModelSide:
    """``address`` is the server's; the model is made of the settings that come before a socket."""

    def __init__(self, address: str, mtu: int) -> None:
        self._host = Host(address, secret=b"a script's secret", mtu=mtu)
        self._address = address
        self._now = 0.0
        self._files: dict[int, _File] = {}
        self._epolls: dict[int, dict[int, _Watched]] = {}
        self._accepted: Connection | None = None
        self._sent: deque[Sent] = deque()
        self._asked: tuple[Ask, float] | None = None
        self._outcome: Outcome | None = None

    def now(self) -> float:
        """Where the script has moved it."""
        return self._now

    def pass_until(self, when: float) -> None:
        """Every timer at its instant."""
        while self._step(when):
            pass
        self._now = max(self._now, when)

    def _step(self, until: float) -> bool:
        """The next timer, of the model or of the call that waits; False when none is due."""
        due = self._host.deadline()
        times = [] if due is None else [due - _START]
        if (end := self._patience()) is not None:
            times.append(end)
        at = min(times, default=until + 1)
        if at > until:
            return False
        self._now = max(self._now, at)
        self._host.advance(self._now + _START)
        self._settle()
        return True

    def _patience(self) -> float | None:
        """When the call that waits waits no more."""
        if self._asked is None:
            return None
        ask, since = self._asked
        timed = ask.verb in {"poll", "epoll_wait"} and ask.value >= 0
        return since + ask.value / 1000 if timed else None

    def _settle(self) -> None:
        """Something has happened: take what was sent, and try again what waits."""
        for event in self._host.events():
            if isinstance(event, Acceptable | Readable | Writable):
                self._note(event)
        self._gather()
        if self._asked is not None:
            self._try()
            self._gather()

    def _gather(self) -> None:
        self._sent += [Sent(self._now, self._now, packet) for packet in self._host.take()]

    def _note(self, event: Acceptable | Readable | Writable) -> None:
        number = event.listener if isinstance(event, Acceptable) else event.connection
        if isinstance(event, Writable):
            for file in self._files.values():
                file.stalled = file.stalled and file.sock.cookie != number
        for watched in self._epolls.values():
            for fd, one in watched.items():
                if fd in self._files and self._files[fd].sock.cookie == number:
                    one.fresh = True

    def next_packet(self, until: float) -> Sent | None:
        """Time goes on only where nothing was sent yet."""
        while not self._sent:
            if not self._step(until):
                self._now = max(self._now, until)
                return None
        return self._sent.popleft()

    def packet(self, packet: bytes) -> None:
        """At this instant."""
        self._host.receive(self._now + _START, packet)
        self._settle()

    def set(self, name: str, value: str) -> None:
        """Of those that mean something to the model."""
        short = name.removeprefix("net.ipv4.").removeprefix("net.core.")
        sysctls = self._host.sysctls
        try:
            if short in {"tcp_rmem", "tcp_wmem"}:
                _, usual, most = (int(word) for word in value.split())
                for field, number in ((f"{short}_default", usual), (f"{short}_max", most)):
                    if field in _KNOWN:
                        setattr(sysctls, field, number)
            elif short == "tcp_fastopen_key":
                cookies.fast_open_keys(value, b"", b"")
                sysctls.tcp_fastopen_key = value
            elif short in _KNOWN:
                setattr(sysctls, short, int(value))
            elif short not in _NO_MATTER and value not in _FIXED.get(short, ()):
                raise UsageError(f"the model has no {name}={value}")
        except (ValueError, OverflowError):
            raise UsageError(f"{name} cannot be {value!r}") from None

    def begin(self, ask: Ask) -> None:
        """Make it, or let it wait."""
        self._asked, self._outcome = (ask, self._now), None
        self._settle()

    def outcome(self, until: float) -> Outcome | None:
        """Time goes on only while it waits."""
        while self._outcome is None:
            if not self._step(until):
                self._now = max(self._now, until)
                return None
        return self._outcome

    def _try(self) -> None:
        assert self._asked is not None
        ask, _ = self._asked
        error = told = ""
        try:
            answer: _Answer = getattr(self, f"_{ask.verb}")(ask)
            if answer is None:
                return
            value, told = (answer, "") if isinstance(answer, int) else answer
        except KernelError as refusal:
            value, error = -1, refusal.name
        except KeyError as missing:
            value, error, told = -1, "EBADF", f"nothing has descriptor {missing.args[0]}"
        self._asked, self._outcome = None, Outcome(value, error, told, self._now)

    def tcp_info(self) -> dict[str, int]:
        """As far as the model knows it; times in microseconds."""
        if self._accepted is None:
            raise UsageError("there is no connection that TCP_INFO could be asked of")
        told = self._host.tcp_info(self._accepted)
        found = {
            one.name: getattr(told, one.name)
            for one in fields(told)
            if one.name not in {"timestamps", "sack", "syn_data"}
        }
        scaled = bool(told.snd_wscale or told.rcv_wscale)
        found["options"] = told.timestamps | told.sack << 1 | scaled << 2 | told.syn_data << 5
        return {
            name: int(value * 1_000_000) if isinstance(value, float) else int(value)
            for name, value in found.items()
        }

    # Calls: None where it waits.

    def _socket(self, ask: Ask) -> int:
        made = self._host.socket()
        self._files[ask.made] = _File(made, not ask.flags & socket.SOCK_NONBLOCK)
        return ask.made

    def _bind(self, ask: Ask) -> int:
        self._host.bind(self._listener(ask.fd), Address(self._address, SERVER_PORT))
        return 0

    def _listen(self, ask: Ask) -> int:
        self._host.listen(self._listener(ask.fd), ask.size)
        return 0

    def _accept(self, ask: Ask) -> int | None:
        file = self._files[ask.fd]
        try:
            made = self._host.accept(self._listener(ask.fd))
        except KernelError as error:
            self._waits(file, error)
            return None
        self._files[ask.made] = _File(made, not ask.flags & socket.SOCK_NONBLOCK)
        self._accepted = made
        return ask.made

    def _waits(self, file: _File, error: KernelError, flags: int = 0) -> None:
        """Raises the error where the call is not to wait."""
        if error.errno != errno.EAGAIN or not file.blocks or flags & socket.MSG_DONTWAIT:
            raise error

    def _setsockopt(self, ask: Ask) -> int:
        if ask.option == "TCP_FASTOPEN_KEY":
            self._host.set_fast_open_keys(self._listener(ask.fd), ask.data)
            return 0
        sock = self._files[ask.fd].sock
        self._host.setsockopt(sock, ask.option, ask.value, self._now + _START)
        return 0

    def _getsockopt(self, ask: Ask) -> tuple[int, str]:
        return 0, str(self._host.getsockopt(self._files[ask.fd].sock, ask.option))

    def _getfl(self, ask: Ask) -> int:
        return os.O_RDWR | (0 if self._files[ask.fd].blocks else os.O_NONBLOCK)

    def _setfl(self, ask: Ask) -> int:
        self._files[ask.fd].blocks = not ask.flags & os.O_NONBLOCK
        return 0

    def _read(self, ask: Ask) -> int | None:
        _refuse_flags(ask, _READING)
        file = self._files[ask.fd]
        try:
            return len(self._host.read(self._time, self._connection(ask.fd), ask.size))
        except KernelError as error:
            self._waits(file, error, ask.flags)
            return None

    def _recvmsg(self, ask: Ask) -> tuple[int, str] | None:
        count = self._read(ask)
        if count is None:
            return None
        connection = self._connection(ask.fd)
        told = self._host.getsockopt(connection, "TCP_INQ")
        return count, f"TCP_CM_INQ {self._host.more(connection)}" if told else ""

    def _write(self, ask: Ask) -> int | None:
        _refuse_flags(ask, _WRITING)
        file, connection = self._files[ask.fd], self._connection(ask.fd)
        waits = file.blocks and not ask.flags & socket.MSG_DONTWAIT
        if file.stalled and not connection.over:
            return None
        while True:
            try:
                data = bytes(ask.size - file.written)
                more = bool(ask.flags & socket.MSG_MORE)
                file.written += self._host.write(self._time, connection, data, more=more)
            except KernelError as error:
                if error.errno == errno.EAGAIN and waits:
                    file.stalled = True
                    return None
                if not file.written:
                    raise
            if file.written == ask.size or not waits:
                written, file.written = file.written, 0
                return written

    def _close(self, ask: Ask) -> int:
        if ask.fd in self._epolls:
            del self._epolls[ask.fd]
        else:
            self._host.close(self._time, self._files.pop(ask.fd).sock)
        return 0

    def _shutdown(self, ask: Ask) -> int:
        self._host.shutdown(
            self._time, self._files[ask.fd].sock,
            receive=ask.flags != socket.SHUT_WR, send=ask.flags != socket.SHUT_RD,
        )  # fmt: skip
        return 0

    def _poll(self, ask: Ask) -> tuple[int, str] | None:
        found = {fd: self._ready(fd) & (events | _ALWAYS) for fd, events in ask.entries}
        count = sum(bool(events) for events in found.values())
        return (count, events_told(found.items())) if count or self._is_late() else None

    def _ready(self, fd: int) -> int:
        ready = self._host.ready(self._files[fd].sock)
        bits = 0
        for flag in ready:
            bits |= getattr(select, f"POLL{flag.name}")
        return bits

    def _is_late(self) -> bool:
        """The call has waited as long as it may."""
        end = self._patience()
        return end is not None and self._now >= end

    def _epoll_create(self, ask: Ask) -> int:
        self._epolls[ask.made] = {}
        return ask.made

    def _epoll_ctl(self, ask: Ask) -> int:
        watched, (fd, events) = self._epolls[ask.fd], ask.entries[0]
        if ask.option == "EPOLL_CTL_DEL":
            del watched[fd]
        else:
            watched[fd] = _Watched(events)
        return 0

    def _epoll_wait(self, ask: Ask) -> tuple[int, str] | None:
        found = []
        for fd, one in self._epolls[ask.fd].items():
            ready = self._ready(fd) & (one.events | _ALWAYS)
            if not ready or not one.events or (one.events & select.EPOLLET and not one.fresh):
                continue
            one.fresh = False
            if one.events & select.EPOLLONESHOT:
                one.events = 0
            found.append((fd, ready))
        return (len(found), events_told(found)) if found or self._is_late() else None

    def _ioctl(self, ask: Ask) -> tuple[int, str]:
        connection = self._connection(ask.fd)
        if ask.option in {"SIOCINQ", "FIONREAD"}:
            return 0, str(self._host.unread(connection))
        if ask.option == "SIOCOUTQ":
            return 0, str(self._host.unacknowledged(connection))
        raise KernelError("ioctl", errno.ENOTTY, "asking about a connection")

    @property
    def _time(self) -> float:
        return self._now + _START

    def _listener(self, fd: int) -> Listener:
        sock = self._files[fd].sock
        if not isinstance(sock, Listener):
            raise KernelError("call", errno.EINVAL, "calling what is for listeners")
        return sock

    def _connection(self, fd: int) -> Connection:
        sock = self._files[fd].sock
        if not isinstance(sock, Connection):
            raise KernelError("call", errno.ENOTCONN, "calling what is for connections")
        return sock


def _refuse_flags(ask: Ask, known: int) -> None:
    left = ask.flags & ~known
    if left:
        raise UsageError(f"the model does not know the flags {left:#x} of this call")
