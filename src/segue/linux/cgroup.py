"""Control groups: one made below another, filled, and removed (cgroups(7)).

A cgroup is a directory; a process enters it by writing into ``cgroup.procs``, and what it starts
is in it too.  No resource is limited here: programs are attached to a group, and a group is told
to leave the processors to others (``cpu.idle``, since Linux 5.15).
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
    errno.EBUSY: "its processes, or groups below it, are in the way",
    errno.EOPNOTSUPP: "it, or one beside or above it, is threaded and has to be otherwise",
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


def of(pid: int, controller: str = "") -> str | None:
    """The directory of this process's cgroup, as ``find`` has it; None if the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            mounted = mounts.read()
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as membership:
            return find(mounted, membership.read(), controller)
    return None


def names(pid: int) -> frozenset[str]:
    """The last names of the cgroups that it is in; none if it is gone."""
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/cgroup", encoding="utf-8") as membership,
    ):
        return frozenset(line.rstrip("\n").rpartition("/")[2] for line in membership)
    return frozenset()


def mine() -> str:
    """The directory of this process's cgroup.  Raises NotSupported where cgroup2 is not mounted."""
    found = of(os.getpid())
    if found is None:
        raise NotSupported(
            "a cgroup of one's own", "a cgroup2 file system that is mounted", "none in mountinfo"
        )
    return found


def make(path: str) -> None:
    """Make it, unless it is there.  Raises KernelError."""
    with _refusals("mkdir", f"making the cgroup {path}"), contextlib.suppress(FileExistsError):
        os.mkdir(path)


def delegated(path: str) -> bool:
    """Whether a service manager says that it left this cgroup, of version 2, to who runs in it.

    systemd writes so, with ``Delegate=`` of a unit, into an attribute of the directory.
    """
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def owner(path: str) -> int:
    """The user who may move and stop its processes.  Raises KernelError."""
    with _refusals("stat", f"looking at the cgroup {path}"):
        return os.stat(path).st_uid


def unified(path: str) -> bool:
    """Whether it is of version 2."""
    return os.path.exists(f"{path}/cgroup.controllers")


def share_processors(path: str) -> None:
    """Have the groups below it compete for processors, each with all of its processes.

    In version 1 they do anyway.  Nothing here takes it back: others may have begun to rely on it.
    Raises KernelError, NotSupported where the controller ``cpu`` is not there for this group.
    """
    if not unified(path):
        return
    if "cpu" not in _words(f"{path}/cgroup.controllers"):
        raise NotSupported("cpu.idle", f"the controller cpu in {path}/cgroup.controllers", "none")
    if "cpu" not in _words(f"{path}/cgroup.subtree_control"):
        _write(f"{path}/cgroup.subtree_control", "+cpu")


def make_beside_processes(path: str) -> None:
    """Make it, unless it is there, also where processes are in the group above it.

    Version 2 lets only a threaded group have processes there, which still is entered by whole
    processes (cgroups(7), "Thread mode").  Raises KernelError.
    """
    make(path)
    if unified(path) and _words(f"{path}/cgroup.type") != {"threaded"}:
        # Not where the groups beside it are of the other kind: then none is in the one above.
        with contextlib.suppress(KernelError):
            _write(f"{path}/cgroup.type", "threaded")


def set_idle(path: str, *, idle: bool) -> None:
    """Whether its processes only get what nobody beside it wants.  Raises KernelError."""
    _write(f"{path}/cpu.idle", "1" if idle else "0")


def is_idle(path: str) -> bool:
    """Whether it was told so; not if it is gone."""
    with contextlib.suppress(OSError):
        return _words(f"{path}/cpu.idle") == {"1"}
    return False


def open_directory(path: str) -> int:
    """A descriptor to attach programs by; the caller closes it.  Raises KernelError."""
    with _refusals("open", f"opening the cgroup {path}"):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_door(path: str) -> int:
    """A descriptor for ``enter``; the caller closes it.

    Whoever writes to it acts with the rights of the process that opened it.  Raises KernelError.
    """
    with _refusals("open", f"opening {path}/cgroup.procs"):
        return os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def enter(door: int) -> None:
    """Move the calling process into the cgroup behind this descriptor.  Raises OSError."""
    os.write(door, b"0")


def try_door(door: int, path: str) -> None:
    """Have a process enter and end.  Raises KernelError if it cannot enter."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover  runs in the child
        try:
            enter(door)
        except OSError as error:
            os._exit(error.errno or errno.EINVAL)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        with _refusals("write", f"entering the cgroup {path}"):
            raise OSError(abs(code), os.strerror(abs(code)))


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


def remove_empty(path: str) -> bool:
    """Remove it, whatever its version, if nobody is in it; whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _wait_empty(path: str, seconds: float) -> None:
    """Until cgroup.events says so, which announces its changes by POLLPRI."""
    with open(f"{path}/cgroup.events", "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0):
            if not poll.poll(seconds * 1000):
                return


def _words(path: str) -> set[str]:
    with open(path, encoding="utf-8") as file:
        return set(file.read().split())


def _write(path: str, text: str) -> None:
    # Not open(), which would make a file where there is none.
    with _refusals("write", f"writing {text} into {path}"):
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)


def _plain(field: str) -> str:
    """A field of mountinfo, in which blanks and backslashes are written in octal."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


@contextlib.contextmanager
def _refusals(call: str, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise KernelError(call, code, doing, _ADVICE.get(code, "")) from error
