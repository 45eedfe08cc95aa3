"""A listener that pauses alone loses the program of its reuseport group without a word.

Needs root, Linux 5.14 or later and nothing else.  It makes a network namespace of its own.

shutdown() and then listen() is how a listener pauses, and with tcp_migrate_req its half-open
handshakes wait for it.  If no other member listens meanwhile, listen() begins a new group.  The
program that was attached (SO_ATTACH_REUSEPORT_CBPF here, an eBPF program as well) stays with the
old one, and setsockopt() and getsockopt() do not tell.

The exit code is 0 when the defect shows.
"""

import ctypes
import errno
import fcntl
import os
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


def listener(backlog: int = 16, **options: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for name, value in options.items():
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    made.bind(HERE)
    made.listen(backlog)
    return made


def attach_program(sock: socket.socket) -> None:
    """Return 0: the member with the index 0."""
    code = ctypes.c_uint64(int.from_bytes(struct.pack("=HBBI", 0x06, 0, 0, 0), sys.byteorder))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, 51, program)  # SO_ATTACH_REUSEPORT_CBPF


def has_program(sock: socket.socket) -> bool:
    """Detach it, which fails where there is none."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, 68, 0)  # SO_DETACH_REUSEPORT_BPF
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def keeps_program(*, pauses: bool, alone: bool) -> bool:
    """Whether the group still has its program after a listener has paused or not."""
    with listener() as first, socket.socket() as other:
        if not alone:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(HERE)
            other.listen()
        attach_program(first)
        if pauses:
            first.shutdown(socket.SHUT_RD)
            first.listen()
        return has_program(first)


def main() -> int:
    own_namespace()
    sysctl("tcp_migrate_req", 1)
    told = {
        "no pause": keeps_program(pauses=False, alone=True),
        "a pause beside another listener": keeps_program(pauses=True, alone=False),
        "a pause alone": keeps_program(pauses=True, alone=True),
    }
    for what, kept in told.items():
        print(f"{what}: the program is {'there' if kept else 'gone'}")
    return 0 if list(told.values()) == [True, True, False] else 1


if __name__ == "__main__":
    sys.exit(main())
