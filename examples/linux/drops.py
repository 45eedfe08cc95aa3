"""With TCP_DEFER_ACCEPT each connection that is served counts as a drop of its listener.

Needs root, Linux and nothing else.  It makes a network namespace of its own.

The kernel drops the ACK that ends the handshake and waits for data, which is what the option asks
for.  It counts that ACK in sk_drops all the same: what `ss -m` shows as d, and SO_MEMINFO tells.
So the one number that says whether a listener loses something grows with each connection.

The exit code is 0 when the defect shows.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

HERE = ("127.0.0.1", 8080)
CONNECTIONS = 5


def own_namespace() -> None:
    """A network of this process alone, with lo."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        sys.exit(f"unshare(2) failed: {os.strerror(ctypes.get_errno())}; run it as root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def listener(backlog: int = 16, **options: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for name, value in options.items():
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    made.bind(HERE)
    made.listen(backlog)
    return made


def drops(sock: socket.socket) -> int:
    """SK_MEMINFO_DROPS of SO_MEMINFO."""
    return struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, 55, 36))[8]


def counted(*, deferred: int) -> int:
    """Drops after so many connections, each of which is accepted and read."""
    with listener(TCP_DEFER_ACCEPT=deferred) as server:
        for _ in range(CONNECTIONS):
            with socket.create_connection(HERE) as client:
                client.send(b"x")
                with server.accept()[0] as served:
                    served.recv(1)
        return drops(server)


def main() -> int:
    own_namespace()
    without, with_it = counted(deferred=0), counted(deferred=1)
    print(f"{CONNECTIONS} connections served, drops of the listener: {without}")
    print(f"the same with TCP_DEFER_ACCEPT: {with_it}")
    return 0 if (without, with_it) == (0, CONNECTIONS) else 1


if __name__ == "__main__":
    sys.exit(main())
