"""Where the files of instances may be: the three places of a user, and for root those of others.

A login decides which of the three it is, by XDG_RUNTIME_DIR.  So who looks for an instance looks in
all of them.  ``SEGUE_DIRECTORY`` is an order: where it is set, there is no other place.
"""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass

from segue.errors import KernelError, NotSupported, UsageError
from segue.linux import openat
from segue.linux.sock_diag import SockDiag


@dataclass(frozen=True, slots=True)
class Place:
    """A directory in which instances of this user may be.  It need not exist."""

    path: str
    uid: int

    def open(self) -> openat.Directory:
        """The directory, which must be this user's alone.  Raises UsageError, OSError."""
        return openat.Directory.open(self.path, self.uid)


def directory() -> str:
    """The directory for new instances of this user, made if it does not exist.

    Raises UsageError if it belongs to another user, who could put a socket in the place of this
    user's socket.
    """
    base = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    chosen = os.environ.get("SEGUE_DIRECTORY", "")
    if not chosen:
        usable = base and os.access(base, os.W_OK)
        chosen = f"{base}/segue" if usable else f"{tempfile.gettempdir()}/segue-{os.geteuid()}"
    make(chosen).close()
    return chosen


def make(path: str) -> openat.Directory:
    """The directory at this path, made if it does not exist.  Raises UsageError."""
    advice = "set SEGUE_DIRECTORY to a directory of your own"
    try:
        # Workers of another user must reach their flag and the notify socket by name.
        return openat.Directory.make(path, 0o711)
    except OSError as error:
        raise UsageError(
            f"{path}, where instances keep their sockets, cannot be used: {error.strerror};"
            f" {advice}"
        ) from None
    except UsageError as error:
        raise UsageError(f"{error}; {advice}") from None


def own_places() -> list[Place]:
    """Where instances of this user may be, that of new ones first.  Raises as ``directory``."""
    me, first = os.geteuid(), directory()
    more = () if os.environ.get("SEGUE_DIRECTORY") else _usual(me)
    return [Place(path, me) for path in dict.fromkeys((first, *more))]


def places() -> list[Place]:
    """Where instances may be that this user may ask: for root, those of all users that listen.

    Raises as ``directory``.
    """
    found = own_places()
    if os.geteuid() == 0 and not os.environ.get("SEGUE_DIRECTORY"):
        found += [Place(path, uid) for uid in sorted(listening() - {0}) for path in _usual(uid)]
    return found


def _usual(uid: int) -> tuple[str, ...]:
    fixed = ("/run/segue",) if uid == 0 else (f"/run/user/{uid}/segue",)
    return *fixed, f"{tempfile.gettempdir()}/segue-{uid}", f"/tmp/segue-{uid}"  # noqa: S108


def listening() -> frozenset[int]:
    """The users that have a TCP listener in this network namespace; none if it cannot be asked."""
    try:
        with SockDiag() as diag:
            families = (socket.AF_INET, socket.AF_INET6)
            return frozenset(one.uid for of in families for one in diag.listeners(None, of))
    except (KernelError, NotSupported):
        return frozenset()
