"""A deferred handshake cannot be finished once its client was answered with a challenge ACK.

Needs root, Linux 6.15 or later and nothing else.  It makes a network namespace of its own.

The listener has TCP_DEFER_ACCEPT, and the client says nothing yet.  Its keepalive asks, with a
number that is out of the window by design, and is answered with an ACK.  The client echoes the
stamp of that ACK from then on.  The listener believes an echo only of stamps that a SYN-ACK had
(tcp_check_req), and a deferred SYN-ACK is not sent again.  So the client's data is refused, and
each refusal is another ACK with another such stamp.

The exit code is 0 when the defect shows.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import time
from pathlib import Path

HERE = ("127.0.0.1", 8080)


def own_namespace() -> None:
    """A network of this process alone, with lo."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        sys.exit(f"unshare(2) failed: {os.strerror(ctypes.get_errno())}; run it as root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


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


def seconds_until_accepted(*, keepalive: bool) -> tuple[float, int]:
    """From the client's first data until accept(), and how many segments were refused."""
    before = counter("TSEcrRejected")
    with listener(TCP_DEFER_ACCEPT=5) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        client.connect(HERE)
        time.sleep(1.5)
        began = time.monotonic()
        client.send(b"hello")
        server.accept()[0].close()
        return time.monotonic() - began, counter("TSEcrRejected") - before


def main() -> int:
    own_namespace()
    found = []
    for keepalive in (False, True):
        seconds, refused = seconds_until_accepted(keepalive=keepalive)
        print(
            f"{'with' if keepalive else 'without'} keepalive: {seconds:.2f} s from the data until"
            f" accept(), TSEcrRejected {refused:+}"
        )
        found.append(refused > 0)
    return 0 if found == [False, True] else 1


if __name__ == "__main__":
    sys.exit(main())
