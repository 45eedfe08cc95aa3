"""Make the listening socket of a running server shareable, from outside, and undo that.

SO_REUSEPORT may be set after listen(2), by any process that has a descriptor of the socket.  From
then on another listener of the same user can bind beside it and gets its part of new connections,
and connections that wait in the old listener can migrate (measured on Linux 6.18;
inet_csk_bind_conflict reads the flag when the other listener binds).  The server notices nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from segue.address import Address
from segue.engine.duplicate import GONE, unreachable
from segue.engine.examination import listeners_of
from segue.errors import KernelError, NotSupported, UsageError
from segue.linux import pidfd, proc
from segue.linux.sockopt import cookie, is_listening, local_address, socket_address
from segue.observe.snapshot import Observer

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
# What pidfd_open(2) says of an id that is nobody's, and of one that is a thread's.
_NO_PROCESS = {errno.ESRCH, errno.EINVAL, errno.ENOENT}
_PRIVILEGE = (
    "another user's process, or one that changed its user or is not dumpable, needs CAP_SYS_PTRACE"
    " and CAP_DAC_READ_SEARCH"
)


@dataclass(frozen=True, slots=True)
class OwnedListener:
    """A listening TCP socket as a descriptor of a process."""

    address: Address
    pid: int
    number: int
    cookie: int
    uid: int  # whose listeners may share its port
    shareable: bool  # SO_REUSEPORT is set


def of_process(pid: int, port: int | None = None) -> list[OwnedListener]:
    """The process's listening TCP sockets, in whichever network namespace, or those at ``port``.

    Raises UsageError when it has none or there is no such process, KernelError: EACCES or EPERM
    when it may not be looked into, with the capability that permits it.
    """
    if not 0 < pid < _MOST_PIDS:
        raise UsageError(f"{pid} is not a process id; for a port write :{pid}")
    try:
        found = _owned_listeners(pid, port)
    except KernelError as error:
        if error.call == "pidfd_open" and error.errno in _NO_PROCESS:
            raise UsageError(
                f"there is no process {pid}; ss -ltnp shows which processes listen, and"
                " segue adopt :PORT takes those at a port"
            ) from error
        raise
    if not found:
        where = "" if port is None else f" at port {port}"
        others = [one for one in proc.tree(pid)[1:] if _listens(one, port)]
        advice = f"; process {others[0]} below it has: name that one" if others else ""
        raise UsageError(
            f"process {pid} ({proc.command(pid)}) has no listening TCP socket{where}{advice}"
        )
    return found


def at_port(observer: Observer, port: int, address: Address | None = None) -> list[OwnedListener]:
    """The listeners at a port of the observer's network namespace, or those that serve ``address``.

    Raises UsageError when no process listens there; NotSupported when the process of a listener
    cannot be seen; KernelError.
    """
    addresses = {
        Address(one.host, one.port)
        for family in (socket.AF_INET, socket.AF_INET6)
        for one in observer.diag.listeners(port, family)
    }
    listeners = listeners_of(
        observer, [observer.serving(address)] if address else sorted(addresses)
    )
    found = []
    for listener in listeners:
        descriptor = proc.find_socket(listener.owners, listener.inode)
        if descriptor is None:
            if (why := unreachable(listener)) is not None:
                raise why
            continue  # it has ended just now
        reached = _owned_listener(*descriptor)
        if reached is not None and reached.cookie == listener.cookie:
            found.append(reached)
    if not found:
        where = str(address) if address else f"port {port}"
        raise UsageError(f"no process listens at {where} in this network namespace")
    return found


def share(owned: OwnedListener) -> None:
    """Set SO_REUSEPORT on the very listener that was found.

    Raises KernelError: EBADF when that listener is gone, and whatever the kernel answers.
    """
    with _duplicated(owned, "setting") as listener:
        _set(owned, listener, 1)


def withdraw(owned: OwnedListener) -> None:
    """Clear SO_REUSEPORT again, so that no listener can join any more.

    To be called in the listener's network namespace.  Raises NotSupported, with the option left
    on, if another listener has shared the port meanwhile.  The kernel remembers that
    (``fastreuseport`` of struct inet_bind_bucket) until the last of them is gone, and a listener
    that then joined one without the option would take all of its new connections.  Raises
    KernelError as ``share`` does.
    """
    with _duplicated(owned, "clearing") as listener:
        _set(owned, listener, 0)
        if _joinable(owned, listener):
            _set(owned, listener, 1)
            raise NotSupported(
                f"taking SO_REUSEPORT back from the listener at {owned.address}",
                "a port that no other listener has shared since",
                "another one has, and the kernel goes on letting listeners join until all that"
                " listen there are gone",
            )


def _joinable(owned: OwnedListener, listener: socket.socket) -> bool:
    """Whether a listener of the same user could bind there now; one that never listens asks."""
    with socket.socket(owned.address.family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if owned.address.family == socket.AF_INET6:
            only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        with contextlib.suppress(PermissionError):
            os.fchown(trial.fileno(), owned.uid, -1)  # the kernel compares the sockets' owners
        try:
            trial.bind(socket_address(owned.address, owned.address.host, owned.address.port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _duplicated(owned: OwnedListener, verb: str) -> Iterator[socket.socket]:
    with pidfd.duplicate_socket(owned.pid, owned.number) as listener:
        if cookie(listener) != owned.cookie:
            raise KernelError(
                "pidfd_getfd", errno.EBADF, _doing(owned, verb), "it was closed meanwhile"
            )
        yield listener


def _set(owned: OwnedListener, listener: socket.socket, value: int) -> None:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, value)
    except OSError as error:
        doing = _doing(owned, "setting" if value else "clearing")
        raise KernelError("setsockopt", error.errno or 0, doing) from error


def _doing(owned: OwnedListener, verb: str) -> str:
    return f"{verb} SO_REUSEPORT on the listener of process {owned.pid} at {owned.address}"


def _listens(pid: int, port: int | None) -> bool:
    """As far as it can be seen, and runs still."""
    with contextlib.suppress(KernelError):
        return bool(_owned_listeners(pid, port))
    return False


def _owned_listeners(pid: int, port: int | None) -> list[OwnedListener]:
    with pidfd.opened(pid):
        if proc.hides_descriptors(pid):
            doing = f"looking at what process {pid} ({proc.command(pid)}) has open"
            raise KernelError("readlink", errno.EACCES, doing, _PRIVILEGE)
        found = [_owned_listener(pid, number) for number in proc.sockets(pid).values()]
    wanted = [one for one in found if one and port in {None, one.address.port}]
    return sorted(wanted, key=lambda one: (one.address, one.number))


def _owned_listener(pid: int, number: int) -> OwnedListener | None:
    """What this descriptor is, if it is a listening TCP socket.  Raises KernelError."""
    try:
        copy = pidfd.duplicate_socket(pid, number)
    except KernelError as error:
        if error.errno in GONE:
            return None
        raise
    with copy:
        kind = (copy.family, copy.type, copy.proto)
        tcp = {(one, socket.SOCK_STREAM, socket.IPPROTO_TCP) for one in _FAMILIES}
        if kind not in tcp or not is_listening(copy):
            return None
        return OwnedListener(
            local_address(copy),
            pid,
            number,
            cookie(copy),
            os.fstat(copy.fileno()).st_uid,
            bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)),
        )
