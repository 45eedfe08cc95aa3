"""Linux as a side: sockets in a network namespace of its own, behind a TUN interface.

A thread makes the calls, so that one that waits stops neither packets nor time.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from segue.errors import KernelError, NotSupported, UsageError
from segue.lab.packetdrill import constants
from segue.lab.packetdrill.calls import Ask, events_told
from segue.lab.packetdrill.side import Outcome, Sent
from segue.lab.packetdrill.speaker import SERVER_PORT
from segue.lab.sides import unlike_until
from segue.linux import netns, route, sysctl, tcp_info, tcp_queue
from segue.linux.tun import Tun

_SPIN_S = 0.001
_LOOK_MS = 2
_END_S = 5.0
_CONTROL = 256


class LinuxSide:
    """The calling thread's namespace; ``address`` is the server's."""

    def __init__(self, tun: Tun, address: str) -> None:
        self._tun, self._address = tun, address
        self._sockets: dict[int, socket.socket] = {}
        self._epolls: dict[int, select.epoll] = {}
        self._accepted: socket.socket | None = None
        self._sent: deque[Sent] = deque()
        self._looked = 0.0  # when there was certainly nothing more
        self._asked: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
        self._outcomes: deque[Outcome] = deque()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="segue-calls", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._started

    def pass_until(self, when: float) -> None:
        """Packets are taken as they come, so that their times are theirs."""
        while (left := when - self.now()) > 0:
            self._gather(left)
        self._gather(0)

    def _gather(self, most: float) -> bool:
        """Wait for packets or the end of a call, no longer than that; True if there was one."""
        poll = select.poll()
        poll.register(self._tun, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        # Milliseconds are too coarse for the last of them.  Nor is it waited for long at once: when
        # a packet came is known no better than when it was looked for last.
        ready = poll.poll(min(_LOOK_MS, int((most - _SPIN_S) * 1000)) if most > 2 * _SPIN_S else 0)
        at = self.now()
        while (packet := self._tun.read()) is not None:
            self._sent.append(Sent(self._looked, at, packet))
        self._looked = at
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        return bool(ready)

    def next_packet(self, until: float) -> Sent | None:
        """By the order of sending."""
        while not self._sent:
            left = until - self.now()
            self._gather(max(0.0, left))
            if left <= 0 and not self._sent:
                return None
        return self._sent.popleft()

    def packet(self, packet: bytes) -> None:
        """Into the interface."""
        self._gather(0)
        self._tun.write(packet)

    def set(self, name: str, value: str) -> None:
        """In the namespace."""
        try:
            sysctl.write(name, value)
        except (NotSupported, KernelError) as error:
            raise UsageError(str(error)) from None

    def begin(self, ask: Ask) -> None:
        """In the thread."""
        self._asked.put(ask)

    def outcome(self, until: float) -> Outcome | None:
        """Of the call that was begun."""
        while not self._outcomes:
            left = until - self.now()
            self._gather(max(0.0, left))
            if left <= 0 and not self._outcomes:
                return None
        return self._outcomes.popleft()

    def tcp_info(self) -> dict[str, int]:
        """By getsockopt."""
        if self._accepted is None or self._accepted.fileno() < 0:
            raise UsageError("there is no connection that TCP_INFO could be asked of")
        return tcp_info.read(self._accepted)

    # The thread.

    def _work(self) -> None:
        while (ask := self._asked.get()) is not None:
            try:
                value, told = self._made(ask)
                error = ""
            except OSError as refusal:
                value, told = -1, ""
                error = errno.errorcode.get(refusal.errno or 0, str(refusal.errno))
            except KeyError as missing:
                value, told, error = -1, f"nothing has descriptor {missing.args[0]}", "EBADF"
            self._outcomes.append(Outcome(value, error, told, self.now()))
            os.eventfd_write(self._woken, 1)

    def _made(self, ask: Ask) -> tuple[int, str]:
        answer: int | tuple[int, str] = getattr(self, f"_{ask.verb}")(ask)
        return (answer, "") if isinstance(answer, int) else answer

    def _socket(self, ask: Ask) -> int:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        self._sockets[ask.made] = socket.socket(family, socket.SOCK_STREAM | ask.flags)
        return ask.made

    def _bind(self, ask: Ask) -> int:
        self._sockets[ask.fd].bind((self._address, SERVER_PORT))
        return 0

    def _listen(self, ask: Ask) -> int:
        self._sockets[ask.fd].listen(ask.size)
        return 0

    def _accept(self, ask: Ask) -> int:
        made, _ = self._sockets[ask.fd].accept()
        made.setblocking(not ask.flags & socket.SOCK_NONBLOCK)
        self._sockets[ask.made] = self._accepted = made
        return ask.made

    def _setsockopt(self, ask: Ask) -> int:
        sock, option = self._sockets[ask.fd], _option(ask.option)
        if ask.option == "SO_LINGER":
            linger = (int(ask.value >= 0), max(ask.value, 0))
            data = b"".join(one.to_bytes(4, "little") for one in linger)
            sock.setsockopt(*option, data)
        elif ask.data or ask.option == "TCP_FASTOPEN_KEY":
            sock.setsockopt(*option, ask.data)
        else:
            sock.setsockopt(*option, (ask.value & 0xFFFFFFFF).to_bytes(4, "little"))
        return 0

    def _getsockopt(self, ask: Ask) -> tuple[int, str]:
        told = self._sockets[ask.fd].getsockopt(*_option(ask.option))
        return 0, str(told & 0xFFFFFFFF)

    def _getfl(self, ask: Ask) -> int:
        blocks = self._sockets[ask.fd].gettimeout() is None
        return os.O_RDWR | (0 if blocks else os.O_NONBLOCK)

    def _setfl(self, ask: Ask) -> int:
        self._sockets[ask.fd].setblocking(not ask.flags & os.O_NONBLOCK)
        return 0

    def _read(self, ask: Ask) -> int:
        return len(self._sockets[ask.fd].recv(ask.size, ask.flags))

    def _recvmsg(self, ask: Ask) -> tuple[int, str]:
        data, control, _, _ = self._sockets[ask.fd].recvmsg(ask.size, _CONTROL, ask.flags)
        inq = constants.number("TCP_CM_INQ")
        told = (
            f"TCP_CM_INQ {int.from_bytes(value, 'little')}"
            for level, kind, value in control
            if level == socket.IPPROTO_TCP and kind == inq
        )
        return len(data), " ".join(told)

    def _write(self, ask: Ask) -> int:
        return self._sockets[ask.fd].send(bytes(ask.size), ask.flags | socket.MSG_NOSIGNAL)

    def _close(self, ask: Ask) -> int:
        if ask.fd in self._epolls:
            self._epolls.pop(ask.fd).close()
        else:
            self._sockets[ask.fd].close()
        return 0

    def _shutdown(self, ask: Ask) -> int:
        self._sockets[ask.fd].shutdown(ask.flags)
        return 0

    def _poll(self, ask: Ask) -> tuple[int, str]:
        poll = select.poll()
        numbers = {self._sockets[fd].fileno(): fd for fd, _ in ask.entries}
        for fd, events in ask.entries:
            poll.register(self._sockets[fd], events)
        ready = {numbers[number]: events for number, events in poll.poll(ask.value)}
        return len(ready), events_told((fd, ready.get(fd, 0)) for fd, _ in ask.entries)

    def _epoll_create(self, ask: Ask) -> int:
        self._epolls[ask.made] = select.epoll()
        return ask.made

    def _epoll_ctl(self, ask: Ask) -> int:
        epoll, (fd, events) = self._epolls[ask.fd], ask.entries[0]
        if ask.option == "EPOLL_CTL_ADD":
            epoll.register(self._sockets[fd], events)
        elif ask.option == "EPOLL_CTL_MOD":
            epoll.modify(self._sockets[fd], events)
        else:
            epoll.unregister(self._sockets[fd])
        return 0

    def _epoll_wait(self, ask: Ask) -> tuple[int, str]:
        timeout = None if ask.value < 0 else ask.value / 1000
        ready = self._epolls[ask.fd].poll(timeout, ask.size)
        numbers = {sock.fileno(): fd for fd, sock in self._sockets.items() if sock.fileno() >= 0}
        return len(ready), events_told((numbers[number], events) for number, events in ready)

    def _ioctl(self, ask: Ask) -> tuple[int, str]:
        sock = self._sockets[ask.fd]
        if ask.option in {"SIOCINQ", "FIONREAD"}:
            return 0, str(tcp_queue.unread(sock))
        if ask.option in {"SIOCOUTQ", "SIOCOUTQNSD"}:
            unsent = ask.option == "SIOCOUTQNSD"
            return 0, str(tcp_queue.unacknowledged(sock, unsent=unsent))
        raise OSError(errno.ENOTTY, ask.option)

    def end(self) -> None:
        """Close all that is open; a call that still waits returns with that."""
        self._asked.put(None)
        for one in self._sockets.values():
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join(_END_S)
        for sock in self._sockets.values():
            sock.close()
        for epoll in self._epolls.values():
            epoll.close()
        if not self._thread.is_alive():
            os.close(self._woken)


def _option(name: str) -> tuple[int, int]:
    found = constants.number(name)
    if found is None:
        raise OSError(errno.ENOPROTOOPT, name)
    for prefix, level in _LEVELS.items():
        if name.startswith(prefix):
            return level, found
    return socket.SOL_SOCKET, found


_LEVELS = {
    "TCP_": socket.IPPROTO_TCP, "IP_": socket.IPPROTO_IP, "IPV6_": socket.IPPROTO_IPV6,
}  # fmt: skip


@contextmanager
def linux(server: str, mtu: int) -> Iterator[LinuxSide]:
    """In a namespace in which all is routed to the script's peer.

    Needs CAP_SYS_ADMIN and /dev/net/tun; raises KernelError.  Waits for as long as ``unlike_until``
    says, after which Linux counts as the model does.
    """
    time.sleep(unlike_until(time.monotonic()))
    with netns.fresh(), Tun("script%d") as tun:
        six = ":" in server
        tun.configure(f"{server}/{64 if six else 32}", mtu=mtu)
        route.add_route("::/0" if six else "0.0.0.0/0", tun.name)
        side = LinuxSide(tun, server)
        try:
            yield side
        finally:
            side.end()
