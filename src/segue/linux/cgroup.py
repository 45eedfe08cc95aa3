"""Control groups, version 2: one made below this process's own, filled, and removed (cgroups(7)).

A cgroup is a directory; a process enters it by writing into ``cgroup.procs``, and what it starts
is in it too.  No resource is limited here: only programs are attached to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
from collections.abc import Iterator

from segue.errors import KernelError, NotSupported

_OCTAL = re.compile(r"\\([0-7]{3})")
_ADVICE = {
    errno.EACCES: "this user may not write there: be root, or have it delegated (Delegate= of a"
    " systemd unit)",
    errno.EROFS: "it is mounted read-only, as containers have it",
    errno.EAGAIN: "a limit of its parent (cgroup.max.descendants, cgroup.max.depth) is reached",
}
_ADVICE[errno.EPERM] = _ADVICE[errno.EACCES]


def find(mounts: str, membership: str, controller: str = "") -> str | None:
    """The directory of a process's cgroup, from its mountinfo and cgroup files (proc(5)).

    The mount's own directory where the cgroup is not below what is mounted; None when cgroup2 is
    mounted nowhere.  With a ``controller``, the same in its hierarchy of version 1.
    """
    own = "/"
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = path
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        name, _, options = kind.partition(" ")
        if controller and (name != "cgroup" or controller not in options.split(" ")[-1].split(",")):
            continue
        if not controller and name != "cgroup2":
            continue
        root, where = (_plain(field) for field in fields.split(" ")[3:5])
        below = own.removeprefix(root) if root != "/" else own
        # Above the root of this cgroup namespace, or beside what is mounted, nothing can be named.
        if not f"{own}/".startswith(f"{root.rstrip('/')}/") or below.startswith("/.."):
            below = ""
        return f"{where.rstrip('/')}{below.rstrip('/')}" or "/"
    return None


def mine() -> str:
    """The directory of this process's cgroup.  Raises NotSupported where cgroup2 is not mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        mounted = mounts.read()
    with open("/proc/self/cgroup", encoding="utf-8") as membership:
        found = find(mounted, membership.read())
    if found is None:
        raise NotSupported(
            "a cgroup of one's own", "a cgroup2 file system that is mounted", "none in mountinfo"
        )
    return found


def make(path: str) -> None:
    """Make it, unless it is there.  Raises KernelError."""
    with _refusals("mkdir", path), contextlib.suppress(FileExistsError):
        os.mkdir(path)


def open_directory(path: str) -> int:
    """A descriptor to attach programs by; the caller closes it.  Raises KernelError."""
    with _refusals("open", path):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_door(path: str) -> int:
    """A descriptor for ``enter``; the caller closes it.

    Whoever writes to it acts with the rights of the process that opened it.  Raises KernelError.
    """
    with _refusals("open", f"{path}/cgroup.procs"):
        return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def enter(door: int) -> None:
    """Move the calling process into the cgroup behind this descriptor.  Raises OSError."""
    os.write(door, b"0")


def members(path: str) -> tuple[int, ...]:
    """The processes in it, those below it left out; () when it is gone."""
    with contextlib.suppress(FileNotFoundError), open(f"{path}/cgroup.procs", "rb") as file:
        return tuple(sorted({int(line) for line in file}))
    return ()


def remove(path: str, seconds: float) -> None:
    """Wait until nobody is in it, and remove it with whatever is attached; gone is no error.

    Raises KernelError: EBUSY, naming who, when after so many seconds somebody still is.
    """
    try:
        _wait_empty(path, seconds)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        inside = ", ".join(map(str, members(path)))
        advice = f"in it still: {inside}" if inside else _ADVICE.get(error.errno or 0, "")
        raise KernelError(
            "rmdir", error.errno or 0, f"removing the cgroup {path}", advice
        ) from error


def _wait_empty(path: str, seconds: float) -> None:
    """Until cgroup.events says so, which announces its changes by POLLPRI."""
    with open(f"{path}/cgroup.events", "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0):
            if not poll.poll(seconds * 1000):
                return


def _plain(field: str) -> str:
    """A field of mountinfo, in which blanks and backslashes are written in octal."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


@contextlib.contextmanager
def _refusals(call: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise KernelError(call, code, f"making the cgroup {path}", _ADVICE.get(code, "")) from error
