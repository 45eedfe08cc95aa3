"""Constants by the names that scripts use: those of Linux's headers."""

from __future__ import annotations

import errno
import os
import select
import socket

# Where Python's modules have no name (include/uapi/linux/tcp.h, asm-generic/socket.h).
_MORE = {
    "SOL_TCP": socket.IPPROTO_TCP, "SOL_IP": socket.IPPROTO_IP, "SOL_IPV6": socket.IPPROTO_IPV6,
    "TCP_INQ": 36, "TCP_CM_INQ": 36, "TCP_FASTOPEN_KEY": 33, "TCP_FASTOPEN_NO_COOKIE": 34,
    "TCP_SAVE_SYN": 27, "TCP_SYNCNT": 7, "TCP_QUICKACK": 12, "TCP_USER_TIMEOUT": 18,
    "TCP_NOTSENT_LOWAT": 25, "SIOCINQ": 0x541B, "FIONREAD": 0x541B, "SIOCOUTQ": 0x5411,
    "SIOCOUTQNSD": 0x894B, "MSG_FASTOPEN": 0x20000000, "MSG_ZEROCOPY": 0x4000000,
    "SO_ZEROCOPY": 60, "SO_MARK": 36, "TCP_FASTOPEN_CONNECT": 30, "IP_FREEBIND": 15,
}  # fmt: skip
_PREFIXES = (
    "SO_", "SOL_", "TCP_", "MSG_", "IP_", "IPV6_", "IPPROTO_", "EPOLL", "POLL", "O_", "SHUT_",
    "SOCK_", "F_",
)  # fmt: skip
# What assertions about TCP_INFO compare with (include/uapi/linux/tcp.h).
OF_TCP_INFO = {
    "TCP_CA_Open": 0, "TCP_CA_Disorder": 1, "TCP_CA_CWR": 2, "TCP_CA_Recovery": 3, "TCP_CA_Loss": 4,
    "TCPI_OPT_TIMESTAMPS": 1, "TCPI_OPT_SACK": 2, "TCPI_OPT_WSCALE": 4, "TCPI_OPT_ECN": 8,
    "TCPI_OPT_ECN_SEEN": 16, "TCPI_OPT_SYN_DATA": 32, "TCP_INFINITE_SSTHRESH": 0x7FFFFFFF,
    "TCP_ESTABLISHED": 1, "TCP_SYN_SENT": 2, "TCP_SYN_RECV": 3, "TCP_FIN_WAIT1": 4,
    "TCP_FIN_WAIT2": 5, "TCP_TIME_WAIT": 6, "TCP_CLOSE": 7, "TCP_CLOSE_WAIT": 8, "TCP_LAST_ACK": 9,
    "TCP_LISTEN": 10, "TCP_CLOSING": 11,
}  # fmt: skip


def number(name: str) -> int | None:
    """Of a constant; None for what is none."""
    if name in _MORE:
        return _MORE[name]
    if not name.startswith(_PREFIXES):
        return None
    for module in (socket, select, os):
        found = getattr(module, name, None)
        if isinstance(found, int):
            return int(found)
    return None


def error_number(name: str) -> int | None:
    """Of an errno's name."""
    found = getattr(errno, name, None)
    return found if isinstance(found, int) else None
