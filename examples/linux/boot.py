"""From 300 s to 420 s after boot each listener believes that it has just sent SYN cookies.

Needs root and Linux, and a system that was started 300 to 420 seconds ago.  It makes a network
namespace of its own.

jiffies begins at -300 s, and the time of a listener's last overflow at 0.  For two minutes after
jiffies has passed 0, a listener that never overflowed looks as if it had.  A stray ACK is then
checked for a cookie, and is counted in SyncookiesFailed.

The exit code is 0 when the defect shows, and 2 when the time is not right.
"""

import ctypes
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


def summed(data: bytes) -> int:
    """The Internet checksum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_stray_ack() -> None:
    """An ACK that belongs to no connection."""
    header = struct.pack("!HHIIBBHHH", 40000, HERE[1], 1000, 1000, 5 << 4, 0x10, 500, 0, 0)
    address = socket.inet_aton(HERE[0])
    pseudo = address + address + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header))
    segment = header[:16] + struct.pack("!H", summed(pseudo + header)) + header[18:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.settimeout(30)
        raw.sendto(segment, (HERE[0], 0))
        while not raw.recv(100)[20 + 13] & 0x04:
            pass  # until its answer, a reset


def main() -> int:
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    own_namespace()
    before = counter("SyncookiesFailed")
    with listener():
        send_stray_ack()
    failed = counter("SyncookiesFailed") - before
    print(f"{uptime:.0f} s after boot, a stray ACK: SyncookiesFailed {failed:+}")
    if not 300 < uptime < 420:
        print("it shows only from 300 s to 420 s after boot")
        return 2
    return 0 if failed == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
