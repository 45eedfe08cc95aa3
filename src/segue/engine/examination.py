"""The options of living listeners, of any process, and what the audit finds in them.

A listener of another process is looked at through a duplicate of its descriptor (pidfd_getfd(2)),
which is closed again at once; nothing of it is changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from segue.address import Address
from segue.engine.audit import ADDRESS, BACKLOG, FILTER, MD5, UID, Level, Mismatch, Value, audit
from segue.engine.duplicate import duplicate
from segue.errors import KernelError, UsageError
from segue.group import Listener
from segue.linux import cbpf, proc, sockopt
from segue.linux.sock_diag import State
from segue.observe.snapshot import Observer

_CLASSIC_BYTES = 8  # of an instruction
_KEY_BYTES = 100  # of struct tcp_diag_md5sig (include/uapi/linux/tcp.h)
_SALT = os.urandom(16)


@dataclass(frozen=True, slots=True)
class Examination:
    """The listeners that were looked at, with their owners, and what was found."""

    listeners: tuple[Listener, ...]
    findings: tuple[Mismatch, ...]

    @property
    def refused(self) -> tuple[Mismatch, ...]:
        """What speaks against migration here: the refused findings that are not allowed."""
        return tuple(one for one in self.findings if one.matters and one.level is Level.REFUSE)

    @property
    def matters(self) -> bool:
        """Something is refused or warned of, and not allowed."""
        return any(one.matters for one in self.findings)


def examine(observer: Observer, address: Address, allow: Collection[str] = ()) -> Examination:
    """Audit the group that serves this address, and beside it what overlaps with it.

    Looks at the network namespace of the observer; changes nothing.  ``allow`` has the names of
    options whose findings shall not matter.  Raises UsageError when no process listens at the
    address or ``allow`` has an unknown name; NotSupported when a listener's process may not be
    looked into (another user's, or not dumpable, without CAP_SYS_PTRACE); KernelError when the
    kernel refuses anything else.  Without CAP_NET_ADMIN no TCP-MD5 key is seen, so none differs.
    """
    address = observer.serving(address)
    listeners, others = listeners_of(observer, [address]), observer.overlapping(address)
    if not listeners:
        more = f"; {' and '.join(map(str, others))} is listened at" if others else ""
        raise UsageError(f"no process listens at {address} in this network namespace{more}")
    listeners += listeners_of(observer, others)
    keys = _keys(observer, address.port)
    options = {
        one.cookie: {**found, MD5: keys.get(one.cookie, "none")}
        for one in listeners
        if (found := options_of(one)) is not None
    }
    seen = tuple(one for one in listeners if one.cookie in options)
    return Examination(seen, audit(options, allow))


def listeners_of(observer: Observer, addresses: Sequence[Address]) -> list[Listener]:
    """The listeners at these addresses, with every owner that this user may see."""
    found = [one for address in addresses for one in observer.snapshot(address).listeners]
    owners = proc.owners({one.inode for one in found})
    return [replace(one, owners=owners.get(one.inode, ())) for one in found]


def options_of(listener: Listener) -> dict[str, Value] | None:
    """What ``audit`` compares, keys left out; None when the listener has gone since it was seen.

    Raises NotSupported when no process that has it may be looked into, KernelError.
    """
    taken = duplicate(listener)
    if taken is None:
        return None
    with taken:
        return {
            ADDRESS: str(listener.address),
            UID: listener.uid,
            BACKLOG: listener.backlog,
            FILTER: _filter(taken),
            **sockopt.settings(taken),
        }


def _keys(observer: Observer, port: int) -> dict[int, str]:
    """The TCP-MD5 keys of listeners by cookie, in a form that can be compared and told."""
    found = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in observer.diag.dump([State.LISTEN], family=family, sport=port, info=True):
            if entry.md5:
                places = range(0, len(entry.md5), _KEY_BYTES)
                keys = sorted(entry.md5[at : at + _KEY_BYTES] for at in places)
                # Salted, so that the printed text does not help to guess a key.
                digest = hashlib.blake2b(b"".join(keys), key=_SALT, digest_size=4).hexdigest()
                found[entry.cookie] = f"{len(keys)} keys ({digest})"
    return found


def _filter(sock: socket.socket) -> str:
    """What packets it lets pass, in a form that can be compared and told."""
    try:
        code = cbpf.filter_code(sock)
    except KernelError as error:
        if error.errno == errno.EACCES:
            return "an eBPF program"  # which the kernel does not show
        raise
    if not code:
        return "none"
    digest = hashlib.sha256(code).hexdigest()[:8]
    return f"{len(code) // _CLASSIC_BYTES} instructions ({digest})"
