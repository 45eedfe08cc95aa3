"""setsockopt and getsockopt, by the names of the constants and with one number as the value.

SO_LINGER's number is its seconds, or -1 for off.  What a listener was told is inherited by the
connections that it makes.  Refusals are KernelErrors with the errno that Linux gives.
"""

from __future__ import annotations

import errno

from segue.errors import KernelError
from segue.model import acknowledging, buffers, keepalive, output, receive_window
from segue.model.connection import Connection
from segue.model.durations import RTO_MAX, TIMEOUT_INIT, retransmits_in
from segue.model.listener import Listener
from segue.model.net import Net

_LEAST_BUFFER = 2304  # SOCK_MIN_RCVBUF
_LEAST_SENT = 4608  # SOCK_MIN_SNDBUF
_NO_MSS_SET = 536  # TCP_MSS_DEFAULT
# What getsockopt says where nothing was set.
_DEFAULTS = {
    "SO_REUSEADDR": 0, "SO_REUSEPORT": 0, "SO_KEEPALIVE": 0, "SO_LINGER": -1, "TCP_NODELAY": 0,
    "TCP_CORK": 0, "TCP_INQ": 0, "TCP_NOTSENT_LOWAT": 0, "TCP_QUICKACK": 1,
    "TCP_USER_TIMEOUT": 0, "TCP_SAVE_SYN": 0, "TCP_FASTOPEN_NO_COOKIE": 0,
    "TCP_SYNCNT": 6, **keepalive.DEFAULTS,
}  # fmt: skip
# Only listeners have these, and only they take these.
_OF_LISTENERS = {"TCP_DEFER_ACCEPT", "TCP_FASTOPEN", "TCP_MAXSEG", "SO_REUSEPORT"}
_BUFFERS = {"SO_RCVBUF", "SO_SNDBUF"}
# The least and the most that Linux takes; of others the least is 0, or there is none.
_RANGES = {
    "TCP_KEEPIDLE": (1, 32767), "TCP_KEEPINTVL": (1, 32767), "TCP_KEEPCNT": (1, 127),
    "TCP_SYNCNT": (1, 127), "TCP_FASTOPEN": (0, 1 << 31), "TCP_USER_TIMEOUT": (0, 1 << 31),
    "TCP_SAVE_SYN": (0, 2),
}  # fmt: skip
_SWITCHES = {
    "TCP_INQ",
    "SO_REUSEADDR",
    "SO_REUSEPORT",
    "SO_KEEPALIVE",
    "TCP_NODELAY",
    "TCP_CORK",
    "TCP_FASTOPEN_NO_COOKIE",
}


def set_to(net: Net, sock: Listener | Connection, name: str, value: int) -> None:
    """What setsockopt does.  Raises KernelError: ENOPROTOOPT for what is not known here, EINVAL."""
    listener = sock if isinstance(sock, Listener) else None
    if name not in _DEFAULTS and name not in _OF_LISTENERS and name not in _BUFFERS:
        raise KernelError("setsockopt", errno.ENOPROTOOPT, f"setting {name}")
    if listener is None and name in _OF_LISTENERS:
        raise KernelError("setsockopt", errno.ENOPROTOOPT, f"setting {name} of a connection")
    least, most = _RANGES.get(name, (value, value))
    if not least <= value <= most:
        raise KernelError("setsockopt", errno.EINVAL, f"setting {name}")
    if name in _SWITCHES or (name == "TCP_QUICKACK" and listener is not None):
        value = int(bool(value))
    if listener is not None and name == "TCP_FASTOPEN":
        listener.fast_open.limit = value
    elif listener is not None and name == "TCP_DEFER_ACCEPT":
        listener.defer_accept = retransmits_in(value)
    elif name == "SO_RCVBUF":
        # Linux doubles it, for its own records.
        size = max(2 * min(value, net.sysctls.rmem_max), _LEAST_BUFFER)
        _remember(sock, name, size)
        if isinstance(sock, Connection):
            receive_window.set_to(net, sock, size)
    elif name == "SO_SNDBUF":
        _remember(sock, name, max(2 * min(value, net.sysctls.wmem_max), _LEAST_SENT))
    else:
        was = sock.options.get(name, _DEFAULTS.get(name))
        _remember(sock, name, value)
        if isinstance(sock, Connection) and not sock.over:
            _in_force(net, sock, name, was=was)


def _remember(sock: Listener | Connection, name: str, value: int) -> None:
    """In a dict of its own: one that nothing was set of has that of its listener."""
    sock.options = {**sock.options, name: value}


def _in_force(net: Net, connection: Connection, name: str, *, was: int | None) -> None:
    """What may go now goes: with TCP_NODELAY also what a cork or a small segment held back."""
    value = connection.options[name]
    if name == "TCP_NODELAY" and value:
        output.transmit(net, connection, push=True)
    elif name == "TCP_CORK" and was and not value:
        output.transmit(net, connection, push=bool(connection.options.get("TCP_NODELAY")))
    elif name == "TCP_KEEPIDLE" or (name == "SO_KEEPALIVE" and value != was):
        keepalive.begin(net, connection)
    elif name == "TCP_QUICKACK":
        acknowledging.set_to(net, connection, value)
    output.rearm(net, connection)


def set_fast_open_keys(listener: Listener, keys: bytes) -> None:
    """TCP_FASTOPEN_KEY: one key or two of 16 bytes, in place of the sysctl's.  Raises KernelError:
    EINVAL.
    """
    if len(keys) not in {16, 32}:
        raise KernelError("setsockopt", errno.EINVAL, "setting TCP_FASTOPEN_KEY")
    listener.fast_open.keys = keys


def get(net: Net, sock: Listener | Connection, name: str) -> int:
    """What getsockopt says.  SO_ERROR is told once.  Raises KernelError: ENOPROTOOPT."""
    if name == "SO_RCVBUF":
        if isinstance(sock, Connection) and sock.buffer is not None:
            return sock.buffer.limit
        return sock.options.get(name, net.sysctls.tcp_rmem_default)
    if name == "SO_SNDBUF":
        if isinstance(sock, Connection):
            return buffers.size(net, sock) or net.sysctls.tcp_wmem_max
        return sock.options.get(name) or net.sysctls.tcp_wmem_default or net.sysctls.tcp_wmem_max
    if name == "SO_ACCEPTCONN":
        return int(isinstance(sock, Listener) and sock.listening)
    if isinstance(sock, Connection):
        if name == "SO_ERROR":
            error, sock.error = sock.error, 0
            return error
        if name == "TCP_MAXSEG":
            return sock.full_size
        if name == "TCP_QUICKACK":
            return int(not sock.interactive)
    elif name == "SO_ERROR":
        return 0
    elif name == "TCP_MAXSEG":
        return sock.options.get(name) or _NO_MSS_SET
    elif name == "TCP_FASTOPEN":
        return sock.fast_open.limit
    elif name == "TCP_DEFER_ACCEPT":
        return _seconds_of(sock.defer_accept)
    if name not in _DEFAULTS:
        raise KernelError("getsockopt", errno.ENOPROTOOPT, f"reading {name}")
    return sock.options.get(name, _DEFAULTS[name])


def _seconds_of(repetitions: int) -> int:
    """How long so many SYN-ACKs take (retrans_to_secs): not what was set, but the next such sum."""
    passed, timeout = 0, int(TIMEOUT_INIT)
    for _ in range(repetitions):
        passed += timeout
        timeout = min(timeout * 2, int(RTO_MAX))
    return passed
