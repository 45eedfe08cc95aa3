"""A half-open request that is reset while it migrates is counted out at the wrong listener.

Needs root, Linux 5.14 or later and nothing else.  It makes a network namespace of its own.

Two listeners share an address, and tcp_migrate_req is 1.  A client's handshake is half-open at the
first (TCP_DEFER_ACCEPT keeps it so) when the first is closed.  Then the client resets it, or its
data meets a full accept queue with tcp_abort_on_overflow.  The second listener now counts -1
half-open requests.  As an unsigned number that is more than any backlog: it drops every SYN.

The exit code is 0 when the defect shows.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = ("127.0.0.1", 8080)


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


def wait_until(condition: Callable[[], bool]) -> None:
    """At most half a minute: a busy machine takes its time over a packet."""
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            sys.exit("the kernel did not answer within 30 s")
        time.sleep(0.001)


def is_answered() -> bool:
    """A new client's SYN is answered, and not dropped."""
    before = counter("TCPReqQFullDrop")
    with socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(HERE)

        def connects() -> bool:
            return bool(select.select([], [client], [], 0)[1])

        wait_until(lambda: connects() or counter("TCPReqQFullDrop") > before)
        return connects()


def by_reset(*, migrates: bool) -> bool:
    """Whether the second listener answers after the client's reset."""
    sysctl("tcp_migrate_req", int(migrates))
    first = listener(TCP_DEFER_ACCEPT=30)
    with socket.create_connection(HERE) as client, listener():
        first.close()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # a reset
        return is_answered()


def by_overflow(*, aborts: bool) -> bool:
    """Whether the second listener answers after an overflow, with an empty queue."""
    sysctl("tcp_migrate_req", 1)
    sysctl("tcp_abort_on_overflow", int(aborts))
    first = listener(TCP_DEFER_ACCEPT=30)
    with socket.create_connection(HERE) as client, listener(0) as second:
        first.close()
        with socket.create_connection(HERE):
            before = counter("ListenOverflows")
            client.send(b"x")  # the queue has room for one, and has it
            wait_until(lambda: counter("ListenOverflows") > before)
            with second.accept()[0]:
                return is_answered()


def main() -> int:
    own_namespace()
    sysctl("tcp_syncookies", 0)  # with 1 every SYN is answered with a cookie instead
    told = {
        "a reset, migration off": by_reset(migrates=False),
        "a reset, migration on": by_reset(migrates=True),
        "an overflow without a reset": by_overflow(aborts=False),
        "an overflow with a reset": by_overflow(aborts=True),
    }
    for what, answered in told.items():
        print(f"{what}: the second listener {'answers' if answered else 'drops every SYN'}")
    print(f"TCPReqQFullDrop: {counter('TCPReqQFullDrop')}")
    return 0 if list(told.values()) == [True, False, True, False] else 1


if __name__ == "__main__":
    sys.exit(main())
