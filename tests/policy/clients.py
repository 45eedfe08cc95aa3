"""Clients for steering tests: from a chosen port, and deaf ones whose handshake stands still."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from collections.abc import Mapping
from typing import Self

from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.linux.sock_diag import SockDiag
from segue.wire import checksum

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)
MSG_FASTOPEN = 0x20000000
_SYN = 0x02

IPV4 = Address("127.0.0.1", 8080)
IPV6 = Address("::1", 8080)


def connect(address: Address = IPV4, source_port: int = 0) -> socket.socket:
    """A connection whose handshake is over."""
    return socket.create_connection(
        (address.host, address.port),
        timeout=PATIENCE,
        source_address=(address.host, source_port) if source_port else None,
    )


def queue(count: int, address: Address = IPV4) -> list[socket.socket]:
    """So many connections, which nobody accepts yet."""
    return [connect(address) for _ in range(count)]


def deaf(address: Address = IPV4, early: bytes = b"") -> socket.socket:
    """A client that has sent its SYN, with ``early`` data in it by Fast Open, and hears nothing.

    The handshake stands half-way until ``hear``.
    """
    client = socket.socket(address.family)
    client.setblocking(False)
    program = struct.pack("@HP", 1, ctypes.addressof(_DROP_ALL))
    client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    if early:
        assert client.sendto(early, MSG_FASTOPEN, (address.host, address.port)) == len(early)
    else:
        assert client.connect_ex((address.host, address.port)) != 0
    return client


class Repeater:
    """Hears every segment that arrives in this namespace, and sends one again."""

    def __init__(self) -> None:
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.raw.settimeout(PATIENCE)

    def repeat_syn(self, times: int) -> None:
        """Send the first SYN heard once more, as its client does when it hears nothing."""
        while True:
            packet = self.raw.recv(2048)
            start = 4 * (packet[0] & 0xF)
            if packet[start + 13] == _SYN:
                break
        segment = bytearray(packet[start:])
        segment[16:18] = bytes(2)
        segment[16:18] = checksum.tcp(packet[12:20], bytes(segment)).to_bytes(2, "big")
        for _ in range(times):
            self.raw.sendto(segment, (socket.inet_ntoa(packet[16:20]), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()


def hear(client: socket.socket) -> None:
    """Let the next retransmission through."""
    client.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, struct.pack("i", 0))


def depth(listener: socket.socket) -> int:
    """How many children are in the accept queue (tcpi_unacked of a listener)."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    found: int = struct.unpack_from("=I", info, 24)[0]
    return found


def wait_depth(listener: socket.socket, count: int) -> None:
    """Until so many children are there: a client is told before its last ACK is taken in."""
    wait_until(lambda: depth(listener) == count, f"{count} children")


def handshakes_over(address: Address) -> None:
    """Wait until those that are under way have ended: each may have had its listener before.

    Also on loopback, where a busy machine leaves the last ACK to ksoftirqd.
    """
    with SockDiag() as diag:

        def half_open() -> set[int]:
            return {one.cookie for one in diag.half_open(address.port, address.family)}

        under_way = half_open()
        wait_until(lambda: not under_way & half_open(), "their handshakes end")


def taken(listeners: Mapping[int, socket.socket], total: int) -> dict[int, int]:
    """Accept and close ``total`` connections, wherever they are: how many each listener had.

    Whatever is more than that is in the sum too.
    """
    found = dict.fromkeys(listeners, 0)
    by_socket = {listener: slot for slot, listener in listeners.items()}
    end = time.monotonic() + PATIENCE
    while True:
        left = 0 if sum(found.values()) >= total else max(0.0, end - time.monotonic())
        ready = select.select(list(by_socket), [], [], left)[0]
        if not ready:
            return found
        for listener in ready:
            listener.accept()[0].close()
            found[by_socket[listener]] += 1


def close(sockets: list[socket.socket]) -> None:
    """All of them."""
    for one in sockets:
        one.close()
