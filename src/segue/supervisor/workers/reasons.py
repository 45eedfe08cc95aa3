"""Why a worker that runs accepts nothing, as far as it can be seen from outside.

Two reasons are common.  A server that was not told of its descriptor listens somewhere else.  And a
server below a wrapper (a shell that forks, uv run, npm) finds the wrapper's pid in LISTEN_PID, so
it takes LISTEN_FDS for another process's (sd_listen_fds(3)).  Some
wrappers (npm) do not pass descriptors on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from segue.address import Address
from segue.errors import KernelError
from segue.linux import proc
from segue.observe.snapshot import Observer
from segue.supervisor.workers.processes import Process

_SHOWN = 3  # processes that listen elsewhere


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a worker's tree."""

    pid: int
    name: str
    program: str = ""  # the identity of its file; "" if it cannot be seen
    told: int | None = None  # the LISTEN_PID that it was started with
    listens: tuple[str, ...] = ()  # addresses, without those of the instance's own listeners
    holds: bool = True  # a listener of the instance, as it was given to the worker, if one was
    beside: bool = False  # it listens at the port of such a one too, by a listener of its own

    def __str__(self) -> str:
        """For a sentence."""
        return f"pid {self.pid} ({self.name})"


def sentence(members: Sequence[Member]) -> str:
    """What there is to say of this tree, whose first process is the worker itself; "" for nothing.

    There is a wrapper where another program runs below the worker.  Processes of a server's own are
    of its program, and have its LISTEN_PID by right.  While a server listens nowhere it may be
    loading, and nobody knows whether it goes by LISTEN_PID.
    """
    said: list[str] = []
    known: set[str] = set()
    for one in members:
        if not known.issuperset(one.listens):  # else it has inherited what another one opened
            known.update(one.listens)
            said.append(f"{one} listens at {' and '.join(one.listens)}")
    said, server = said[:_SHOWN], None
    if len({one.program for one in members}) > 1:
        top, *below = members
        server = next((one for one in below if one.listens and one.told == top.pid), None)
        if server and server.holds:
            said.append(
                f"LISTEN_PID is of {top}, and the server is {server}: write {{fd}} in the command,"
                " or exec the server"
            )
        elif server:
            said.append(
                f"{top} has not passed its descriptors on to {server}: exec the server without it,"
                " or use --bind-by worker"
            )
    elif any(one.beside for one in members):
        said.append(
            "it has opened that itself, and has not taken the listener that it was given: give"
            " --bind-by worker, or have it take descriptor 3 ({fd})"
        )
    if members and server is None and not any(one.holds for one in members):
        said.append("it has closed the listener that it was given")
    return "; ".join(said)


class Reasons:
    """Looks at starting workers, each at most once in a while.

    The first look is not at the start: most workers are ready before it, and it lists every
    listener of the network namespace.
    """

    def __init__(self, observer: Observer, every: float) -> None:
        self._observer, self._every = observer, every
        self._last: dict[int, tuple[float, str]] = {}  # by worker: when, and what was found

    def of(self, process: Process, own: Collection[int], most: int, now: float) -> str:
        """The sentence for this worker; ``own`` are cookies of the instance's listeners."""
        number = process.worker.id
        when, said = self._last.get(number, (process.worker.started, ""))
        if now >= when + self._every:
            said = sentence(self._members(process, own, most))
            self._last[number] = now, said
        return said

    def forget(self, worker: int) -> None:
        """This worker is ready, or gone."""
        self._last.pop(worker, None)

    def _members(self, process: Process, own: Collection[int], most: int) -> list[Member]:
        try:
            everywhere = self._observer.everywhere()
        except KernelError:
            return []  # it is a hint only
        given = {inode: address.port for inode, cookie, address, _ in everywhere if cookie in own}
        listening = {
            inode: (address, " for IPv6 alone" if v6only and address.host == "::" else "")
            for inode, _, address, v6only in everywhere
            if inode not in given
        }
        tree = process.tree(most)
        found = [_member(pid, listening, given) for pid in tree]
        if process.worker.listeners and len(tree) < most:
            return found
        # One that binds was given none; and others than these may have it.
        return [replace(one, holds=True) for one in found]


def _member(
    pid: int, listening: Mapping[int, tuple[Address, str]], given: Mapping[int, int]
) -> Member:
    told = [one for one in proc.environment(pid) if one.startswith(b"LISTEN_PID=")]
    number = told[0].partition(b"=")[2] if told else b""
    sockets = proc.sockets(pid)
    elsewhere = [listening[inode] for inode in sockets if inode in listening]
    held = {given[inode] for inode in sockets if inode in given}
    return Member(
        pid,
        proc.command(pid),
        proc.file_identity(pid, "exe"),
        int(number) if number.isdigit() and len(number) < 10 else None,
        tuple(sorted({f"{address}{how}" for address, how in elsewhere})),
        bool(held) or not any(proc.files(pid)),  # or what it has open is not ours to see
        any(address.port in held for address, _ in elsewhere),
    )
