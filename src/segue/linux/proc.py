"""Processes as /proc shows them (proc(5)): trees, descriptors, times.

A process may end between any two reads: what is gone is answered as empty or None, never raised.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Literal

from segue.linux import schedstat
from segue.linux.schedstat import Scheduled
from segue.visible import visible

_FLAGS, _PF_EXITING = 6, 0x4  # of proc_pid_stat(5), from the state on
_TICKS = os.sysconf("SC_CLK_TCK")
_PIECE = 1 << 16
# Of a file of another process, which by prctl(2) may call any of its memory its arguments.  The
# longest that are honest list children or what an epoll instance watches, some bytes for each.
_MOST = 1 << 25
# What execve(2) takes for arguments and environment together, whatever the limit on the stack.
_MOST_EXECUTED = 6 << 20
_MOST_NAME = 4096  # of a first argument; a path is no longer
_MOST_STATUS = 1 << 20  # whose longest line has up to 65,536 groups (NGROUPS_MAX)
_MOST_ABOVE = 64  # ancestors
_SHOWN = 64  # characters of a program's name
_DOING = {
    "R": "is running",
    "S": "is asleep",
    "D": "waits for a device",
    "T": "is stopped",
    "t": "is being traced",
}


# What is said of a process that has ended, or that is not ours to look into.
_GONE = (FileNotFoundError, PermissionError, ProcessLookupError)


def _read(path: str, most: int = _MOST) -> bytes:
    data = b""
    # ProcessLookupError: the process ended between open and read.
    with contextlib.suppress(*_GONE):
        # Not open(), which asks what kind of file it is: a look at a process takes a third more.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Nearly all of these files are short, but the kernel may give any in pieces.
            while piece := os.read(file, min(_PIECE, most - len(data))):
                data += piece
        finally:
            os.close(file)
    return data


def stat_fields(text: bytes) -> list[bytes]:
    """The fields of /proc/PID/stat from the third (state) on.

    The second, the name in parentheses, may hold spaces and parentheses itself: the last closing
    one ends it.
    """
    return text.rpartition(b")")[2].split()


def _stat(pid: int) -> list[bytes]:
    return stat_fields(_read(f"/proc/{pid}/stat"))


def everyone() -> Iterator[int]:
    """Every process id there is now."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def children(pid: int) -> tuple[int, ...]:
    """Living children of every thread of a process (CONFIG_PROC_CHILDREN), else by ppid."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    found: list[int] = []
    for thread in threads:
        path = f"/proc/{pid}/task/{thread}/children"
        if not os.path.exists(path):
            if os.path.exists(f"/proc/{pid}/task/{pid}"):
                return _children_by_parent(pid)
            continue
        found += [int(child) for child in _read(path).split()]
    return tuple(sorted(found))


def _children_by_parent(pid: int) -> tuple[int, ...]:
    wanted = str(pid).encode()
    return tuple(sorted(one for one in everyone() if _stat(one)[1:2] == [wanted]))


def tree(pid: int, most: int | None = None) -> tuple[int, ...]:
    """The process and all its descendants, ascending within a level; () when it is gone.

    With ``most``, so many of them and perhaps one more, which tells that there are others.
    """
    return descend(pid, children, most) if os.path.exists(f"/proc/{pid}") else ()


def below(pid: int) -> dict[int, int]:
    """The descendants of a process, itself left out -> their start times.

    Each was a child of another one of them when its time was read: a process that has got the
    number of one that ended meanwhile is none of them.
    """
    found = {}
    pids = dict.fromkeys(tree(pid))
    for one in list(pids)[1:]:
        fields = _stat(one)
        if len(fields) > 19 and fields[0] != b"Z" and int(fields[1]) in pids:
            found[one] = int(fields[19])
    return found


def children_born(pid: int, but: Collection[int] = ()) -> dict[int, int]:
    """Living children of a process -> their start times, each read while it was its child.

    Of those in ``but`` nothing is read.
    """
    found = {}
    for one in children(pid):
        if one in but:
            continue
        fields = _stat(one)
        if len(fields) > 19 and fields[0] != b"Z" and int(fields[1]) == pid:
            found[one] = int(fields[19])
    return found


def parent(pid: int) -> int | None:
    """Its parent's pid; None when it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else None


def descend(
    pid: int, children_of: Callable[[int], Iterable[int]], most: int | None = None
) -> tuple[int, ...]:
    """A process and those below it, each once, though an ancestor may adopt one meanwhile.

    With ``most``, nobody's children are asked for once there are more, and one more is answered.
    """
    found = [pid]
    known = {pid}
    for one in found:
        if most is not None and len(found) > most:
            return tuple(found[: most + 1])
        new = [child for child in children_of(one) if child not in known]
        known.update(new)
        found += new
    return tuple(found)


def line_above(pid: int) -> tuple[int, ...]:
    """The process, its parent, that one's, and so on; a few dozen at most."""
    found: list[int] = []
    while pid > 0 and len(found) < _MOST_ABOVE:
        found.append(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0
    return tuple(found)


def process_group(pid: int) -> int | None:
    """The id of its process group, which is its leader's pid; None when it is gone."""
    fields = _stat(pid)
    return int(fields[2]) if len(fields) > 2 else None


def control_group(pid: int) -> str:
    """Its path in the unified hierarchy, else in that of the service manager (cgroups(7)).

    "" when it is gone or in none.
    """
    paths = {}
    for line in _read(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines():
        number, controllers, path = line.split(":", 2)
        paths["unified" if number == "0" else controllers] = path
    # A hybrid host keeps services in the one named systemd and nothing in the unified one.
    unified = paths.get("unified", "")
    return unified if unified.strip("/") else paths.get("name=systemd", unified)


def file_identity(pid: int, which: Literal["exe", "cwd"]) -> str:
    """Device and inode of its program or its directory; "" when it is gone or not ours to see.

    A program that was replaced under its name is another file, also while the old one still runs.
    """
    try:
        found = os.stat(f"/proc/{pid}/{which}")
    except OSError:
        return ""
    return f"{found.st_dev:x}:{found.st_ino}"


def shares_namespace(pid: int, which: Literal["net", "mnt"]) -> bool:
    """It is in this thread's namespace of this kind; not when it is gone or not ours to see."""
    try:
        return os.path.samefile(f"/proc/{pid}/ns/{which}", f"/proc/thread-self/ns/{which}")
    except OSError:
        return False


def session_of(pid: int) -> int | None:
    """The leader of its session; None when it is gone."""
    fields = _stat(pid)
    return int(fields[3]) if len(fields) > 3 else None


def session(leader: int) -> dict[int, int]:
    """Processes whose session the leader made -> their start times.

    The leader is left out, and so are zombies.
    """
    wanted = str(leader).encode()
    found = {}
    for pid in everyone():
        fields = _stat(pid)
        if pid != leader and len(fields) > 19 and fields[3] == wanted and fields[0] != b"Z":
            found[pid] = int(fields[19])
    return found


def sockets(pid: int) -> dict[int, int]:
    """Socket inode -> descriptor number; {} when the process is gone or not ours to look into."""
    path = f"/proc/{pid}/fd"
    found: dict[int, int] = {}
    with contextlib.suppress(*_GONE):
        # Not both open at once: we may be near our limit.
        entries = os.listdir(path)
        # Below a descriptor the kernel has no path to walk, for each of what may be thousands.
        where = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in entries:
                try:
                    target = os.readlink(entry, dir_fd=where)
                except _GONE:  # not suppress(), which takes as long as the call
                    continue
                if target.startswith("socket:["):
                    found.setdefault(int(target[8:-1]), int(entry))
        finally:
            os.close(where)
    return found


def files(pid: int) -> Iterator[str]:
    """What its descriptors lead to (proc_pid_fd(5)), as far as it is ours to see."""
    with contextlib.suppress(*_GONE):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(*_GONE):
                yield os.readlink(f"/proc/{pid}/fd/{entry}")


def reads_and_writes(pid: int, number: int) -> bool:
    """It has this descriptor open with O_RDWR (proc_pid_fdinfo(5)); not when it is gone."""
    for line in _read(f"/proc/{pid}/fdinfo/{number}").splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE == os.O_RDWR
    return False


def find_socket(pids: Iterable[int], inode: int) -> tuple[int, int] | None:
    """Which of these processes has the socket, and under which number."""
    for pid in pids:
        number = sockets(pid).get(inode)
        if number is not None:
            return pid, number
    return None


def hides_descriptors(pid: int) -> bool:
    """The process runs and this user may not see what it has open.

    So with one that changed its user or capabilities, or made itself undumpable (prctl(2)), for
    whoever has no CAP_SYS_PTRACE.
    """
    where = f"/proc/{pid}/fd"
    try:
        # The names may be there for root to read, and what they stand for not.  To list them takes
        # the longer, the more it has open: nearly all have one of the first.
        for number in range(3):
            with contextlib.suppress(FileNotFoundError):
                os.readlink(f"{where}/{number}")
                return False
        with os.scandir(where) as entries:  # the first tells; there may be many thousand
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    os.readlink(entry.path)
                    return False
    except PermissionError:
        # One that is ending has no memory and nothing open any more, and shows its files to root
        # alone (proc_pid_statm(5); task_dump_owner in fs/proc/base.c).
        return _read(f"/proc/{pid}/statm").split()[:1] not in ([], [b"0"])
    except (FileNotFoundError, ProcessLookupError):
        return False
    return False


def polled(pid: int) -> set[int]:
    """Descriptor numbers that its epoll instances watch; empty when gone or not ours to look into.

    The "tfd" of proc_pid_fdinfo(5).
    """
    found: set[int] = set()
    with contextlib.suppress(*_GONE):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(*_GONE):
                if os.readlink(f"/proc/{pid}/fd/{entry}") == "anon_inode:[eventpoll]":
                    lines = _read(f"/proc/{pid}/fdinfo/{entry}").splitlines()
                    found |= {int(line.split()[1]) for line in lines if line.startswith(b"tfd:")}
    return found


def owners(inodes: Iterable[int], among: Iterable[int] | None = None) -> dict[int, tuple[int, ...]]:
    """Socket inode -> the processes that have it open, as far as this user may see.

    Of all processes, which takes milliseconds, or of those ``among`` which they are looked for.
    """
    wanted = set(inodes)
    found: dict[int, list[int]] = {}
    for pid in everyone() if among is None else among:
        for inode in wanted & set(sockets(pid)):
            found.setdefault(inode, []).append(pid)
    return {inode: tuple(sorted(pids)) for inode, pids in found.items()}


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments; () for a kernel thread or a process that is gone."""
    read = _read(f"/proc/{pid}/cmdline", _MOST_EXECUTED)
    return tuple(part.decode(errors="replace") for part in read.split(b"\0")[:-1])


def command(pid: int) -> str:
    """The program's name: of its first argument, else the kernel's; "?" when it is gone.

    Of a script that was executed by its #! line it is the script's.  Any process may call itself
    anything: the name is short, and fit for a terminal.
    """
    read = _read(f"/proc/{pid}/cmdline", _MOST_NAME).decode(errors="replace")
    first, *more = read.split("\0")
    kernels = _comm(pid)
    # The interpreter, perhaps one argument for it, and the path of the script (execve(2)).
    script = next((one for one in map(os.path.basename, more[:2]) if one[:15] == kernels), "")
    name = script or (program(first) if first else kernels)
    return visible(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _comm(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").decode(errors="replace").strip() or "?"


def program(argument: str) -> str:
    """The name in a first argument, over which servers write (``nginx: worker process``)."""
    return os.path.basename(argument.split(" ", maxsplit=1)[0]).rstrip(":") or argument


def describe(pids: Sequence[int]) -> str:
    """At most three processes, for a sentence: ``pid 7 (nginx) and pid 8 (nginx)``."""
    return " and ".join(f"pid {pid} ({command(pid)})" for pid in pids[:3])


def doing(pids: Sequence[int]) -> str:
    """What at most three processes do: ``pid 7 is asleep in do_epoll_wait, pid 8 is running``."""
    said = []
    for pid in pids[:3]:
        state, channel = run_state(pid) or "", wait_channel(pid)
        where = f" in {channel}" if channel else ""
        said.append(f"pid {pid} {_DOING.get(state, 'is ending')}{where}")
    return ", ".join(said)


def start_time(pid: int) -> int | None:
    """Ticks from boot to its start: with the pid, the identity of a process.  None when gone."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 and fields[0] != b"Z" else None


def ending(pid: int) -> bool:
    """It has ended, or does, and has given up its files or is about to (PF_EXITING)."""
    fields = _stat(pid)
    return len(fields) <= _FLAGS or fields[0] == b"Z" or bool(int(fields[_FLAGS]) & _PF_EXITING)


def start_seconds(pid: int) -> float | None:
    """The same in seconds from boot, to the tick; None when gone."""
    ticks = start_time(pid)
    return None if ticks is None else ticks / _TICKS


def run_state(pid: int) -> str | None:
    """The state letter (R, S, D, T, Z...), or None when it is gone."""
    fields = _stat(pid)
    return fields[0].decode() if fields else None


def scheduling(pid: int) -> dict[int, Scheduled]:
    """Thread -> its time; {} when the process is gone, or the kernel keeps no such account
    (CONFIG_SCHED_INFO).
    """
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            where = f"/proc/{pid}/task/{thread}"
            state = b"".join(stat_fields(_read(f"{where}/stat"))[:1])
            if times := schedstat.parse(_read(f"{where}/schedstat"), state):
                found[int(thread)] = times
    return found


def wait_channel(pid: int) -> str:
    """The kernel function that it sleeps in; "" when it runs, is gone, or is not ours to see."""
    return _read(f"/proc/{pid}/wchan").decode().strip("0")


def uid(pid: int) -> int | None:
    """The effective user, or None when it is gone."""
    # Not the directory's owner: that is root while the process is not dumpable.
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    return None


def capabilities(pid: int) -> int:
    """The effective ones as a set of bits (capabilities(7)); 0 when it is gone."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"CapEff:"):
            return int(line.split()[1], 16)
    return 0


def catches(pid: int, number: int) -> bool:
    """It has a handler for this signal; not when it is gone."""
    for line in _read(f"/proc/{pid}/status", _MOST_STATUS).splitlines():
        if line.startswith(b"SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def threads_stopped(pid: int) -> bool:
    """Every thread is stopped (T, t), or the process is gone or dead: none will run."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return True
    states = (stat_fields(_read(f"/proc/{pid}/task/{thread}/stat"))[:1] for thread in threads)
    return all(not state or state[0] in {b"T", b"t", b"Z", b"X"} for state in states)


def environment(pid: int) -> list[bytes]:
    """The NAME=VALUE entries it was started with; [] when it is gone or not ours to look into."""
    return _read(f"/proc/{pid}/environ", _MOST_EXECUTED).split(b"\0")[:-1]
