"""Network namespaces: made, entered and left by the calling thread (unshare(2), setns(2)).

A new namespace has its loopback interface up.  It lives as long as a descriptor, a socket or a
process is in it; nothing is mounted, so nothing is left behind.  Needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from segue.errors import KernelError, UsageError

CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


_ADVICE = {
    errno.EPERM: "it needs CAP_SYS_ADMIN",
    errno.EINVAL: "that is no network namespace",
}


def _call(name: str, *args: int, doing: str) -> None:
    if getattr(_libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise KernelError(name, code, doing, _ADVICE.get(code, ""))


def current() -> int:
    """A descriptor of the calling thread's network namespace; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def find(text: str) -> int:
    """A descriptor of the namespace named: NAME as ip-netns(8) has it, a PID, or a path.

    The caller closes it.  Raises UsageError when there is none.
    """
    if "/" in text:
        path = text
    else:
        path = f"/proc/{text}/ns/net" if text.isdigit() else f"/run/netns/{text}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"{text!r} does not name a network namespace:"
            f" {path} cannot be opened ({error.strerror})"
        ) from None


def enter(namespace: int) -> None:
    """Move the calling thread into the namespace.  Raises KernelError."""
    _call("setns", namespace, CLONE_NEWNET, doing="entering a network namespace")


def _unshare() -> None:
    _call("unshare", CLONE_NEWNET, doing="making a network namespace")


def raise_interface(name: str) -> None:
    """Set IFF_UP, as ``ip link set NAME up`` does (netdevice(7)).  Raises KernelError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", name.encode(), 0)
        try:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
            _, flags = struct.unpack("16sH14x", answer)
            raised = struct.pack("16sH14x", name.encode(), flags | _IFF_UP)
            fcntl.ioctl(control, _SIOCSIFFLAGS, raised)
        except OSError as error:
            doing = f"setting interface {name} up"
            raise KernelError("ioctl", error.errno or 0, doing) from error


@contextmanager
def kept() -> Iterator[None]:
    """The calling thread returns after the block to the namespace in which it is now."""
    home = current()
    try:
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


@contextmanager
def fresh() -> Iterator[int]:
    """The calling thread is in a new namespace inside the block; yields its descriptor.

    Processes started inside are in it too.  The thread returns to where it was.
    """
    with kept():
        _unshare()
        raise_interface("lo")
        inside = current()
        try:
            yield inside
        finally:
            os.close(inside)


@contextmanager
def visited(where: str) -> Iterator[None]:
    """The calling thread is in that namespace inside the block; "" is where it is already.

    Raises UsageError when there is no such one (``find``), KernelError when it may not be entered.
    """
    if not where:
        yield
        return
    there = find(where)
    try:
        with kept():
            enter(there)
            yield
    finally:
        os.close(there)
