"""A request that migrates to a listener without its TCP-MD5 key is accepted, and never heard again.

Needs root, Linux 5.14 or later with TCP_MD5SIG and nothing else.  It makes a network namespace of
its own.

The client's key is that of the first listener.  Its handshake migrates to a second one that has
another key for it.  The final segment is judged by the key of the listener that it came by, the
connection has that of the new one: its first data is read, and everything after is refused
(TCPMD5Failure).  Up to Linux 6.16 such a request was not even accepted.

The exit code is 0 when the defect shows.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import sys
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


def sign(sock: socket.socket, key: bytes) -> None:
    """TCP_MD5SIG with struct tcp_md5sig: segments from and to 127.0.0.1 bear a signature."""
    peer = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(HERE[0])).ljust(128, b"\0")
    value = peer + struct.pack("=BBHi", 0, 0, len(key), 0) + key.ljust(80, b"\0")
    sock.setsockopt(socket.IPPROTO_TCP, 14, value)


def heard(key: bytes) -> bytes | None:
    """What the second listener's program reads of two bytes; None when nothing was accepted."""
    first, client = listener(TCP_DEFER_ACCEPT=30), socket.socket()
    for one in (first, client):
        sign(one, b"secret")
    client.connect(HERE)
    with client, listener() as second:
        sign(second, key)
        first.close()
        client.send(b"1")
        second.settimeout(10)
        try:
            served = second.accept()[0]
        except TimeoutError:
            return None
        with served:
            found, before = served.recv(1), counter("TCPMD5Failure")
            client.send(b"2")
            while counter("TCPMD5Failure") == before:
                if select.select([served], [], [], 0.01)[0]:
                    return found + served.recv(1)
            return found


def main() -> int:
    own_namespace()
    sysctl("tcp_migrate_req", 1)
    same, other = heard(b"secret"), heard(b"other")
    print(f"the same key at the target: {same!r} of b'12' is heard")
    print(f"another key at the target: {other!r} of b'12' is heard (None: not accepted)")
    print(f"TCPMD5Failure: {counter('TCPMD5Failure')}")
    return 0 if same == b"12" and other != b"12" else 1


if __name__ == "__main__":
    sys.exit(main())
