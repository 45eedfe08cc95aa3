"""What TCP has of a socket: its accept queue, what is unread, and what lies over it."""

from __future__ import annotations

import fcntl
import socket
import struct

from segue.errors import KernelError

_SO_PROTOCOL = 38
_TCP_ULP = 31
_SIOCINQ, _SIOCOUTQ, _SIOCOUTQNSD = 0x541B, 0x5411, 0x894B
# struct tcp_info: of a listener tcpi_unacked is the queue, tcpi_sacked the backlog.
_QUEUE_AT = 24
_SENT_AT, _RECEIVED_AT = 44, 52  # tcpi_last_data_sent, tcpi_last_data_recv
_ROUND_TRIP_AT = 68  # tcpi_rtt
_BYTES_RECEIVED_AT = 128  # tcpi_bytes_received
_ESTABLISHED = 1


def accepting(listener: socket.socket) -> tuple[int, int]:
    """How many connections wait in a listener's accept queue, and its backlog."""
    data = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_AT + 8)
    queue, backlog = struct.unpack_from("=II", data, _QUEUE_AT)
    return queue, backlog


def quiet(connection: socket.socket) -> float:
    """For how many seconds neither side has sent data; of one that is new, how old it is."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + 4)
    ago: list[int] = [struct.unpack_from("=I", data, at)[0] for at in (_SENT_AT, _RECEIVED_AT)]
    return min(ago) / 1000


def received(connection: socket.socket) -> int | None:
    """How many bytes have come in order since it was made; None unless both sides have it open."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_AT + 8)
    if data[0] != _ESTABLISHED:
        return None
    count: int = struct.unpack_from("=Q", data, _BYTES_RECEIVED_AT)[0]
    return count


def read_of(connection: socket.socket) -> int | None:
    """How many bytes have been read of it, or more if some come just now; None as ``received``."""
    left = unread(connection)
    count = received(connection)
    return None if count is None else count - left


def round_trip(connection: socket.socket) -> float:
    """The seconds that the kernel takes it for, smoothed; 0 before it has measured one."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP_AT + 4)
    micros: int = struct.unpack_from("=I", data, _ROUND_TRIP_AT)[0]
    return micros / 1e6


def peek(connection: socket.socket, most: int) -> bytes:
    """The next unread bytes, left where they are; fewer when an urgent mark is among them.

    Raises KernelError.
    """
    if not most:
        return b""
    try:
        return connection.recv(most, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
    except OSError as error:
        doing = "looking at what a connection has not read"
        raise KernelError("recv", error.errno or 0, doing) from error


def plain(connection: socket.socket) -> bool:
    """It is TCP, neither MPTCP nor with a layer of the kernel over it such as TLS (TCP_ULP)."""
    if connection.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) != socket.IPPROTO_TCP:
        return False
    return not connection.getsockopt(socket.IPPROTO_TCP, _TCP_ULP, 16).strip(b"\0")


def traffic_class(connection: socket.socket) -> int:
    """What is in the header of its packets: IP_TOS, or IPV6_TCLASS."""
    mapped = connection.getsockname()[0].startswith("::ffff:")
    if connection.family == socket.AF_INET6 and not mapped:
        return max(0, connection.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS))
    return connection.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


def unread(connection: socket.socket) -> int:
    """Bytes that a read would give (SIOCINQ, tcp(7)).  Raises OSError: EINVAL of a listener."""
    count: int = struct.unpack("=i", fcntl.ioctl(connection, _SIOCINQ, bytes(4)))[0]
    return count


def unacknowledged(connection: socket.socket, *, unsent: bool = False) -> int:
    """Bytes that the peer has not acknowledged, or of them those that were not sent (SIOCOUTQ,
    SIOCOUTQNSD).  Raises OSError.
    """
    request = _SIOCOUTQNSD if unsent else _SIOCOUTQ
    count: int = struct.unpack("=i", fcntl.ioctl(connection, request, bytes(4)))[0]
    return count
