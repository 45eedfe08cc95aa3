"""Each Fast Open child that migrates leaves its new listener a slot more than TCP_FASTOPEN allows.

Needs root, Linux 5.14 or later and nothing else.  It makes a network namespace of its own.

TCP_FASTOPEN bounds how many children may wait for their final ACK: a defence against spoofed SYNs.
Here no final ACK arrives, since the listeners have a filter that passes SYNs alone.  Three children
migrate and are then reset.  They were never counted at their new listener, but are subtracted
there, so that its limit of one lets four more wait.

The exit code is 0 when the defect shows.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = ("127.0.0.1", 8080)
WITHOUT_COOKIE = 0x207  # client and server, and neither needs a cookie
MIGRATED, TRIED = 3, 8


def own_namespace() -> None:
    """A network of this process alone, with lo."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        sys.exit(f"unshare(2) failed: {os.strerror(ctypes.get_errno())}; run it as root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def sysctl(name: str, value: int) -> None:
    Path("/proc/sys/net/ipv4", name).write_text(str(value))


def counter(name: str) -> int:
    """Of /proc/net/netstat."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if name in names.split():
            return int(values.split()[names.split().index(name)])
    return 0


def listener(backlog: int = 16, **options: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for name, value in options.items():
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    made.bind(HERE)
    made.listen(backlog)
    return made


def passes_syns_alone(sock: socket.socket) -> None:
    """A classic filter: the flags are byte 13 of the TCP header, and SYN is 2."""
    code = (ctypes.c_uint64 * 4)(
        *(int.from_bytes(struct.pack("=HBBI", *one), sys.byteorder) for one in (
            (0x30, 0, 0, 13),  # ldb [13]
            (0x45, 0, 1, 2),  # jset #2
            (0x06, 0, 0, 0xFFFF),  # ret all
            (0x06, 0, 0, 0),  # ret nothing
        ))
    )  # fmt: skip
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


def wait_until(condition: Callable[[], bool]) -> None:
    """At most half a minute: a busy machine takes its time over a packet."""
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            sys.exit("the kernel did not answer within 30 s")
        time.sleep(0.001)


def taken() -> int:
    """How many children were made of SYNs with data."""
    return counter("TCPFastOpenPassive")


def begins() -> socket.socket:
    """A client whose SYN has data."""
    client = socket.socket()
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.sendto(b"hello", socket.MSG_FASTOPEN, HERE)
    return client


def waiting(migrated: int) -> int:
    """How many children wait at a listener with one slot, to which so many others have migrated."""
    clients = []
    first = listener(TCP_FASTOPEN=MIGRATED)
    passes_syns_alone(first)
    before = taken()
    clients += [begins() for _ in range(migrated)]
    wait_until(lambda: taken() - before == migrated)
    with listener(TCP_FASTOPEN=1) as second:
        passes_syns_alone(second)
        first.close()
        for _ in range(migrated):
            second.accept()[0].close()  # its data was not read: a reset
        before, refused = taken(), counter("TCPFastOpenListenOverflow")
        clients += [begins() for _ in range(TRIED)]
        wait_until(
            lambda: taken() - before + counter("TCPFastOpenListenOverflow") - refused == TRIED
        )
        found = taken() - before
        for one in clients:
            one.close()
    return found


def main() -> int:
    own_namespace()
    sysctl("tcp_fastopen", WITHOUT_COOKIE)
    sysctl("tcp_migrate_req", 1)
    none, some = waiting(0), waiting(MIGRATED)
    print(f"one slot, nothing migrated: {none} of {TRIED} children wait for their final ACK")
    print(f"one slot, {MIGRATED} children migrated before: {some} of {TRIED} wait")
    return 0 if (none, some) == (1, 1 + MIGRATED) else 1


if __name__ == "__main__":
    sys.exit(main())
