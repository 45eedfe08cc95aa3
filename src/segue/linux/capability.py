"""capabilities(7): the sets of the calling process, read, emptied, and kept over exec(2).

Ambient capabilities are what a program without any of its own in the file keeps over exec; they
are a subset of the inheritable and of the permitted ones.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from segue.errors import KernelError, UsageError

# By number, from 0 (include/uapi/linux/capability.h).
_NAMES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable"
    " net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio"
    " sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time"
    " sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog"
    " wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)
NAMES = tuple(_NAMES.split())

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: 64 bits in two parts
_HEADER = struct.Struct("=Ii")  # mirrors struct __user_cap_header_struct
_DATA = struct.Struct("=6I")  # two of struct __user_cap_data_struct: effective, permitted, inherit.

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Sets:
    """Three sets as bits, bit n being capability n."""

    effective: int
    permitted: int
    inheritable: int


def bits(names: Iterable[str]) -> int:
    """A set by names such as ``net_bind_service``, with or without CAP_, in either case.

    Raises UsageError for a name that no capability has.
    """
    found = 0
    for name in names:
        known = name.lower().removeprefix("cap_")
        if known not in NAMES:
            raise UsageError(f"{name!r} is not a capability (write one such as net_bind_service)")
        found |= 1 << NAMES.index(known)
    return found


def names(which: int) -> str:
    """The set in words, such as ``CAP_SETUID and CAP_KILL``."""
    return " and ".join(f"CAP_{name.upper()}" for n, name in enumerate(NAMES) if which >> n & 1)


def mine() -> Sets:
    """Those of this thread.  Raises KernelError."""
    data = ctypes.create_string_buffer(_DATA.size)
    _check("capget", _libc.capget(_HEADER.pack(_VERSION, 0), data), "reading capabilities")
    words = _DATA.unpack(data.raw)
    return Sets(*(words[n] | words[n + 3] << 32 for n in range(3)))


def keep_only(which: int) -> None:
    """This thread has these, over exec(2) too, and no others.  Raises KernelError: EPERM when it
    has not got one of them.
    """
    low, high = which & 0xFFFFFFFF, which >> 32
    data = _DATA.pack(low, low, low, high, high, high)
    _check("capset", _libc.capset(_HEADER.pack(_VERSION, 0), data), "giving up capabilities")
    for number in range(len(NAMES)):
        if which >> number & 1:
            _ambient(_PR_CAP_AMBIENT_RAISE, number, "keeping a capability")


def clear_ambient() -> None:
    """No program gets any by being executed from here.  Raises KernelError."""
    _ambient(_PR_CAP_AMBIENT_CLEAR_ALL, 0, "clearing ambient capabilities")


def keep_permitted() -> None:
    """The next change of user takes no permitted ones away, exec(2) does.  Raises KernelError."""
    _check("prctl", _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")


def _ambient(operation: int, number: int, doing: str) -> None:
    _check("prctl", _libc.prctl(_PR_CAP_AMBIENT, operation, number, 0, 0), doing)


def _check(call: str, result: int, doing: str) -> None:
    if result != 0:
        raise KernelError(call, ctypes.get_errno(), doing)
