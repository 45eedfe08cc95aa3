"""Where an instance keeps its files: control socket, record, lock, workers' flags.

``/run/segue`` for root, ``$XDG_RUNTIME_DIR/segue`` for a user, ``/tmp/segue-UID`` where there is
neither.  One lock per name says who runs it; everything else may be left over and is replaced.
The directory is looked at anew for each use: one in /tmp may be removed by a cleaner, and anybody
may make it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from typing import Any

from segue.address import Address
from segue.errors import SegueError, UsageError
from segue.linux import openat

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# Bytes; 512 workers at ten addresses have some 1 MB.  What is cut is no JSON.
_LONGEST_RECORD = 1 << 24
_LONGEST_SOCKET = 107  # sun_path has 108 bytes with the closing zero


def directory() -> str:
    """The directory of this user's instances; made if need be.

    Raises UsageError when it exists and belongs to somebody else: another user must not be able
    to put a socket where this one looks for its own.
    """
    base = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    chosen = os.environ.get("SEGUE_DIRECTORY", "")
    if not chosen:
        usable = base and os.access(base, os.W_OK)
        chosen = f"{base}/segue" if usable else f"{tempfile.gettempdir()}/segue-{os.geteuid()}"
    _make(chosen).close()
    return chosen


def _make(path: str) -> openat.Directory:
    """The directory at this path, made unless it is there.  Raises UsageError."""
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


def check_name(name: str) -> None:
    """Raise UsageError for what an instance cannot be called, such as a path."""
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: use letters, digits and ._@- (at most 64)")


def name_of(address: Address, namespace: str = "") -> str:
    """What an instance at this address is called unless it is given a name.

    ``_`` stands for what no file name should hold; the network namespace comes after an ``@``.
    """
    plain = [re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_") for text in (str(address), namespace)]
    return "@".join(text for text in plain if text)


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one instance."""

    base: str  # directory/NAME

    @classmethod
    def of(cls, name: str) -> Paths:
        """The paths of the instance with this name.

        Raises UsageError when the directory cannot be used, or its sockets would have names that
        are too long.
        """
        made = cls(f"{directory()}/{name}")
        if len(os.fsencode(made.notify)) > _LONGEST_SOCKET:
            raise UsageError(
                f"{made.notify} is longer than the {_LONGEST_SOCKET} bytes that a socket's name"
                " may have (unix(7)); give a shorter --name or SEGUE_DIRECTORY"
            )
        return made

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
        """The socket that workers find in NOTIFY_SOCKET."""
        return f"{self.base}.notify"

    @property
    def record(self) -> str:
        """What a next supervisor needs to take over."""
        return f"{self.base}.json"

    @property
    def lock_file(self) -> str:
        """Locked by whoever runs this instance."""
        return f"{self.base}.lock"

    def whole(self) -> bool:
        """Clients and a next supervisor would find this instance."""
        try:
            with openat.around(self.base) as (here, own):
                return here.holds(f"{own}.sock") and here.holds(f"{own}.lock")
        except (OSError, UsageError):
            return False

    def flag(self, worker: int) -> str:
        """The file whose first byte tells a worker its stage (segue.worker)."""
        return f"{self.base}.w{worker}"

    def lock(self) -> int:
        """Own this name; the descriptor keeps it until closed, or until the process ends.

        Raises SegueError when a supervisor of this name runs.
        """
        with _make(os.path.dirname(self.base)) as here:
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
        """Replace the record in one step: a crash leaves the old one or the new one."""
        with openat.around(self.record) as (here, name):
            made = here.file(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(made, "w", encoding="utf-8") as file:
                json.dump(plain, file)
            here.rename(f"{name}.new", name)

    def read_record(self) -> dict[str, Any] | None:
        """The last record, or None when there is none that can be read."""
        try:
            with openat.around(self.record) as (here, name):
                found = here.file(name, os.O_RDONLY)
            with open(found, "rb") as file:
                plain = json.loads(file.read(_LONGEST_RECORD))
        except (OSError, ValueError, RecursionError, UsageError):
            return None
        return plain if isinstance(plain, dict) else None

    def write_flag(self, worker: int, value: int) -> None:
        """Make a worker's flag.  Raises OSError, and UsageError as ``directory``."""
        with openat.around(self.flag(worker)) as (here, name):
            with openat.exactly(0o644):  # whatever the umask: a worker of another user maps it
                made = here.file(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            with open(made, "wb") as file:
                file.write(bytes([value]))

    def remove(self) -> None:
        """Remove every file of this instance; the lock's stays, since names of locks must."""
        with contextlib.suppress(FileNotFoundError), openat.around(self.base) as (here, own):
            for path in (self.control, self.notify, self.record, f"{self.record}.new"):
                here.unlink(os.path.basename(path))
            prefix = f"{own}.w"
            for entry in here.names():
                if entry.startswith(prefix) and entry.removeprefix(prefix).isdigit():
                    here.unlink(entry)


def instances() -> list[str]:
    """The names of this user's instances that run now."""
    where = directory()
    with openat.Directory.open(where) as here:
        entries = here.names()
    found = (entry.removesuffix(".sock") for entry in entries if entry.endswith(".sock"))
    return sorted(name for name in found if _runs(Paths(f"{where}/{name}")))


def _runs(paths: Paths) -> bool:
    """Somebody listens: a supervisor that was killed leaves its socket's name behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.setblocking(False)
        try:
            asking.connect(paths.control)
        except BlockingIOError:
            return True  # more wait to be accepted than there is room for
        except OSError:
            return False
    return True
