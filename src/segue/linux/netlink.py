"""Netlink messages and attributes, and a socket that asks and listens (netlink(7)).

Narrow on purpose: requests and dumps of one protocol, which is what socket diagnostics need.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from segue.errors import KernelError, WireError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_HEADER = struct.Struct("=IHHII")  # mirrors struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # mirrors struct nlattr
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_RECEIVE = 1 << 18  # a dump comes in pieces of at most 32 KiB; the more a call takes the better
_TRIES = 3  # a dump that changed under the reader is read again so often


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type, flags and payload."""

    kind: int
    flags: int
    payload: memoryview


def encode(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A message from the kernel's user (port id 0)."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def decode(data: memoryview) -> Iterator[Message]:
    """Every message in a received buffer.  Raises WireError when a length makes no sense."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise WireError("netlink message", f"length {length} of {len(data) - at} bytes left")
        yield Message(kind, flags, data[at + _HEADER.size : at + length])
        at += (length + 3) & ~3


def encode_attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    padding = -len(payload) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + b"\0" * padding


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Every attribute as (type, payload).  Raises WireError when a length makes no sense."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise WireError("netlink attribute", f"length {length} of {len(data) - at} bytes left")
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


class Netlink:
    """A netlink socket of one protocol, in the network namespace it was made in."""

    def __init__(self, protocol: int, doing: str) -> None:
        self._doing = doing
        self._sequence = 0
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
            )
        except OSError as error:
            raise KernelError("socket(AF_NETLINK)", error.errno or 0, doing) from error

    def dump(self, kind: int, payload: bytes) -> list[memoryview]:
        """The payloads of a whole dump.  Raises KernelError.

        A dump during which the table changed (NLM_F_DUMP_INTR) is read again, at most three
        times; the last one is taken as it is, since a table that always changes has no better.
        """
        for _ in range(_TRIES):
            found, interrupted = self._exchange(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
            if not interrupted:
                break
        return found

    def request(self, kind: int, payload: bytes, flags: int = 0) -> memoryview | None:
        """The payload of the single answer; None when the answer is a bare acknowledgement.

        Raises KernelError with the errno of the answer.
        """
        found, _ = self._exchange(kind, NLM_F_REQUEST | flags, payload)
        return found[0] if found else None

    def _exchange(self, kind: int, flags: int, payload: bytes) -> tuple[list[memoryview], bool]:
        self._sequence += 1
        try:
            self._socket.send(encode(kind, flags, self._sequence, payload))
        except OSError as error:
            raise KernelError("send", error.errno or 0, self._doing) from error
        found: list[memoryview] = []
        interrupted = False
        many = bool(flags & NLM_F_DUMP)
        while True:
            try:
                received = self._socket.recv(_RECEIVE)
            except OSError as error:
                raise KernelError("recv", error.errno or 0, self._doing) from error
            for message in decode(memoryview(received)):
                interrupted |= bool(message.flags & _NLM_F_DUMP_INTR)
                if message.kind == _NLMSG_DONE:
                    return found, interrupted
                if message.kind == _NLMSG_ERROR:
                    code = -int.from_bytes(message.payload[:4], sys.byteorder, signed=True)
                    if code:
                        raise KernelError("netlink", code, self._doing)
                    return found, interrupted
                found.append(message.payload)
            if not many:
                return found, interrupted

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def not_found(error: KernelError) -> bool:
    """The answer was that there is no such thing."""
    return error.errno in {errno.ENOENT, errno.ESRCH}
