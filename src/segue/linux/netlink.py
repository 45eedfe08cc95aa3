"""Netlink messages and attributes, and a socket that asks and listens (netlink(7)).

Narrow on purpose: requests and dumps of one protocol, which is what socket diagnostics need.  No
multicast, no extended acknowledgements.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from segue.errors import KernelError, WireError
from segue.linux.closing import Closing

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_LOWEST_PAYLOAD_KIND = 0x10  # below are the control messages (NLMSG_MIN_TYPE)
_HEADER = struct.Struct("=IHHII")  # mirrors struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # mirrors struct nlattr
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

# netlink_recvmsg remembers the largest buffer it was given, and netlink_dump fills pieces up to
# that, but never more than 32 KiB: a smaller buffer costs calls, a larger one is never filled.
_RECEIVE = 1 << 16
_TRIES = 3  # a dump that changed under the reader, or overran the buffer, is read again so often
# The kernel has answered before send() returns, so this is only ever reached by a kernel bug; a
# supervisor must not hang in it.
_PATIENCE_SECONDS = 5
_TIMEVAL = struct.Struct("@ll")  # mirrors struct timeval
# So many answers at once: the kernel drops those for which the socket's buffer has no room.
_TOGETHER = 16

# One netlink message: kind, flags, sequence and payload.  A plain tuple, since a dump may have many
# thousand.
Message = tuple[int, int, int, memoryview]


def encode(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A message from the kernel's user (port id 0)."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def decode(data: memoryview) -> Iterator[Message]:
    """Every message in a received buffer.  Raises WireError when a length makes no sense."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _HEADER.size:
            raise WireError("netlink message", f"{end - at} bytes are no header", bytes(data[at:]))
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= end - at:
            raise WireError("netlink message", f"length {length} of {end - at} bytes left")
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def encode_attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    padding = -len(payload) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + b"\0" * padding


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Every attribute as (type, payload).  Raises WireError when a length makes no sense."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _ATTRIBUTE.size:
            raise WireError("netlink attribute", f"{end - at} bytes are none", bytes(data[at:]))
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= end - at:
            raise WireError("netlink attribute", f"length {length} of {end - at} bytes left")
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


class Netlink(Closing):
    """A netlink socket of one protocol, in the network namespace it was made in."""

    def __init__(self, protocol: int) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
            )
        except OSError as error:
            doing = f"opening netlink protocol {protocol}"
            raise KernelError("socket(AF_NETLINK)", error.errno or 0, doing) from error
        patience = _TIMEVAL.pack(_PATIENCE_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._sequence = 0
        self._answering = False  # an answer was not read to its end

    def dump(self, kind: int, payload: bytes, doing: str) -> list[memoryview]:
        """The payloads of a whole dump.  Raises KernelError, WireError.

        A dump during which the table changed (NLM_F_DUMP_INTR) is read again, at most three
        times; the last one is taken as it is, since a table that always changes has no better.
        So is one for which the kernel found no room (ENOBUFS), which then raises.
        """
        for left in reversed(range(_TRIES)):
            try:
                found, interrupted = self._exchange(
                    kind, NLM_F_REQUEST | NLM_F_DUMP, payload, doing
                )
            except KernelError as error:
                if error.errno != errno.ENOBUFS or not left:
                    raise
                continue
            if not interrupted:
                break
        return found

    def request(
        self,
        kind: int,
        payload: bytes,
        doing: str,
        *,
        acknowledged: bool = False,
        create: bool = False,
    ) -> memoryview | None:
        """The payload of the single answer.  ``acknowledged`` asks for a bare yes or no: None.

        ``create`` is for messages that make something (NLM_F_CREATE).  Raises KernelError with
        the errno of the answer, WireError.
        """
        flags = NLM_F_REQUEST | (NLM_F_ACK if acknowledged else 0)
        flags |= NLM_F_CREATE if create else 0
        found, _ = self._exchange(kind, flags, payload, doing)
        return found[0] if found else None

    def look_up(self, kind: int, payloads: Sequence[bytes], doing: str) -> list[memoryview | None]:
        """The payload of the single answer to each, in their order; None for what is not there.

        As ``request`` for one after the other, and a few times as fast.  Raises KernelError, with
        the errno of the first answer that is another one than ENOENT; WireError.
        """
        found: list[memoryview | None] = []
        for begin in range(0, len(payloads), _TOGETHER):
            found += self._look_up(kind, payloads[begin : begin + _TOGETHER], doing)
        return found

    def _look_up(self, kind: int, payloads: Sequence[bytes], doing: str) -> list[memoryview | None]:
        self._discard()
        places: dict[int, int] = {}  # in the answer, by sequence number: those that are awaited
        asked = b""
        for place, payload in enumerate(payloads):
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            places[self._sequence] = place
            message = encode(kind, NLM_F_REQUEST, self._sequence, payload)
            asked += message + b"\0" * (-len(message) % 4)
        found: list[memoryview | None] = [None] * len(payloads)
        self._answering = True
        with _saying(doing):
            self._socket.send(asked)
            while places:
                for answer, _, sequence, said in decode(self._receive()):
                    place = places.pop(sequence, -1)
                    if place < 0:
                        continue
                    if answer >= _LOWEST_PAYLOAD_KIND:
                        found[place] = said
                    else:
                        _check(said, doing, errno.ENOENT)
        self._answering = False
        return found

    def _exchange(
        self, kind: int, flags: int, payload: bytes, doing: str
    ) -> tuple[list[memoryview], bool]:
        self._discard()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        single = not flags & (NLM_F_DUMP | NLM_F_ACK)
        found: list[memoryview] = []
        interrupted = False
        self._answering = True
        with _saying(doing):
            self._socket.send(encode(kind, flags, self._sequence, payload))
            while self._answering:
                for answer, marks, sequence, said in decode(self._receive()):
                    if sequence != self._sequence:
                        continue  # the rest of an answer that was given up
                    interrupted |= bool(marks & _NLM_F_DUMP_INTR)
                    if answer >= _LOWEST_PAYLOAD_KIND:
                        found.append(said)
                        self._answering &= not single
                    elif answer in {_NLMSG_ERROR, _NLMSG_DONE}:
                        # Both begin with an errno: a dump may fail after it has begun.
                        self._answering = False
                        _check(said, doing)
        return found, interrupted

    def _receive(self) -> memoryview:
        return memoryview(self._socket.recv(_RECEIVE))

    def _discard(self) -> None:
        """Read off what an exception left; a dump that goes on would refuse another (EBUSY)."""
        while self._answering:
            try:
                self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                # The kernel adds the next piece of a dump within recv(): empty is the end.
                self._answering = False
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError("netlink", error.errno or 0, "reading on") from error

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; twice is no error."""
        self._socket.close()


@contextlib.contextmanager
def _saying(doing: str) -> Iterator[None]:
    """What the socket refuses in this block is a KernelError too."""
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("netlink", error.errno or 0, doing) from error


def _check(payload: memoryview, doing: str, expected: int = 0) -> None:
    code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if code not in {0, expected}:
        raise KernelError("netlink", code, doing)
