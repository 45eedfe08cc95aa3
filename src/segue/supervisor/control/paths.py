"""The files of an instance: control socket, record, lock, flags of workers.

They are in one of the places of its user (``places.py``): ``/run/segue`` for root,
``$XDG_RUNTIME_DIR/segue`` for another user, or else ``/tmp/segue-UID``.  The running supervisor
holds the lock of its name.  All other files may be left over from an earlier one, and are replaced.
The directory is checked before each use: a cleaner may remove one in /tmp, and then any user may
make it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from segue import strict_json
from segue.address import Address
from segue.errors import SegueError, UsageError
from segue.linux import openat
from segue.linux.sockopt import peer_credentials
from segue.supervisor.control.places import make, own_places

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# Bytes.  512 workers at ten addresses need about 1 MB.  A record that is cut is not JSON.
_LONGEST_RECORD = 1 << 24
_LONGEST_SOCKET = 107  # sun_path has 108 bytes with the closing zero


def check_name(name: str) -> None:
    """Raise UsageError if an instance cannot have this name, such as a path."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: use letters, digits and ._@- (at most 64)")


def name_of(address: Address, namespace: str = "") -> str:
    """The default name of an instance at this address.

    ``_`` replaces characters that do not belong in a file name.  An IPv6 address says that it is
    one, as nothing else would be left of ``[::]``.  The network namespace follows an ``@``.
    """
    first = f"ipv6_{address}" if address.family == socket.AF_INET6 else str(address)
    plain = [re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_") for text in (first, namespace)]
    return "@".join(text for text in plain if text)


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one instance."""

    base: str  # directory/NAME

    @classmethod
    def of(cls, name: str) -> Paths:
        """The paths of this user's instance with this name.

        They are where it runs, else where a record of it is, which another login may have made,
        else in the directory for new instances.  Raises UsageError if that directory cannot be
        used, or if the paths of its sockets would be too long.
        """
        made = max((cls(f"{place.path}/{name}") for place in own_places()), key=cls._used)
        if len(os.fsencode(made.notify)) > _LONGEST_SOCKET:
            raise UsageError(
                f"{made.notify} is longer than the {_LONGEST_SOCKET} bytes that a socket's name"
                " may have (unix(7)); give a shorter --name or SEGUE_DIRECTORY"
            )
        return made

    @classmethod
    def at(cls, control: str) -> Paths:
        """The paths of the instance with this control socket."""
        return cls(control.removesuffix(".sock"))

    def _used(self) -> int:
        if answers(self.control, os.geteuid()):
            return 2
        return 0 if self.read_record() is None else 1

    @property
    def name(self) -> str:
        """The instance's name."""
        return os.path.basename(self.base)

    @property
    def control(self) -> str:
        """The control socket."""
        return f"{self.base}.sock"

    @property
    def notify(self) -> str:
        """The socket for notifications of workers, which is in their NOTIFY_SOCKET."""
        return f"{self.base}.notify"

    @property
    def record(self) -> str:
        """The file from which a next supervisor takes over."""
        return f"{self.base}.json"

    @property
    def history(self) -> str:
        """The file of what has happened (history.py)."""
        return f"{self.base}.history"

    @property
    def older_history(self) -> str:
        """What that file was before it was full."""
        return f"{self.base}.history.old"

    @property
    def lock_file(self) -> str:
        """The file that the running supervisor has locked."""
        return f"{self.base}.lock"

    def whole(self, *, notify: bool) -> bool:
        """True if clients, a next supervisor and, with ``notify``, workers can find this instance.

        Raises OSError if that cannot be told, such as EMFILE.
        """
        try:
            with openat.around(self.base) as (here, own):
                kinds = ("sock", "lock", "notify") if notify else ("sock", "lock")
                return all(here.holds(f"{own}.{kind}") for kind in kinds)
        except (FileNotFoundError, NotADirectoryError, UsageError):
            return False

    def recorded(self) -> bool:
        """True if there is a record.  Raises OSError if that cannot be told, such as EMFILE."""
        try:
            with openat.around(self.record) as (here, name):
                return here.holds(name)
        except (FileNotFoundError, NotADirectoryError, UsageError):
            return False

    def flag(self, worker: int) -> str:
        """The page that a worker shares with us (segue.page)."""
        return f"{self.base}.w{worker}"

    def lock(self) -> int:
        """Lock this name.  The lock lasts until the descriptor is closed or the process ends.

        Raises SegueError if a supervisor of this name runs.
        """
        with make(os.path.dirname(self.base)) as here:
            lock = here.file(os.path.basename(self.lock_file), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise SegueError(
                f"an instance named {self.name} is already running (pid {pid}), as segue status"
                f" --name {self.name} shows; use that one, or give this one another --name"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def write_record(self, plain: dict[str, Any]) -> None:
        """Replace the record in one step, so that a crash leaves the old one or the new one."""
        with openat.around(self.record) as (here, name):
            made = here.file(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(made, "w", encoding="utf-8") as file:
                # Not json.dump: it writes each name and number by itself, at five times the cost.
                file.write(json.dumps(plain))
            here.rename(f"{name}.new", name)

    def read_record(self) -> dict[str, Any] | None:
        """The last record, or None if there is no readable one."""
        try:
            with openat.around(self.record) as (here, name):
                found = here.file(name, os.O_RDONLY)
            with open(found, "rb") as file:
                plain = strict_json.loads(file.read(_LONGEST_RECORD))
        except (OSError, ValueError, UsageError):
            return None
        return plain if isinstance(plain, dict) else None

    def write_flag(self, worker: int, page: bytes, size: int, owner: int | None = None) -> None:
        """Make a worker's page of this ``size``, which begins so.

        Its user, who may write into it, is ours or this ``owner``.  Raises OSError, and UsageError
        as ``directory``.
        """
        with openat.around(self.flag(worker)) as (here, name):
            with openat.exactly(0o644):  # with any umask, because a worker of another user maps it
                made = here.file(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with open(made, "wb") as file:
                file.write(page)
                file.truncate(size)
                if owner is not None:
                    with contextlib.suppress(PermissionError):  # then it only reads
                        os.fchown(made, owner, -1)

    def remove(self) -> None:
        """Remove every file of this instance but the lock, which must keep its file, and its
        history.
        """
        with contextlib.suppress(FileNotFoundError), openat.around(self.base) as (here, own):
            for path in (self.control, self.notify, self.record, f"{self.record}.new"):
                here.unlink(os.path.basename(path))
            prefix = f"{own}.w"
            for entry in here.names():
                if entry.startswith(prefix) and entry.removeprefix(prefix).isdigit():
                    here.unlink(entry)


def answers(control: str, uid: int, pid: int | None = None) -> bool:
    """True if a process of this user listens there, and if it is this one where one is given.

    A killed supervisor leaves the file of its socket.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.setblocking(False)
        try:
            asking.connect(control)
            process, user, _ = peer_credentials(asking)
        except BlockingIOError:
            return pid is None  # its accept queue is full: it listens
        except OSError:
            return False
    return user == uid and pid in {None, process}
