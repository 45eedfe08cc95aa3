"""A network namespace behind a TUN interface, in which Linux tells one story after the other.

Making a namespace and removing it costs more than a story does, and waits for all others.  So that
no story knows of those before it, each has clients at an address of their own, which is the key of
what TCP remembers of a peer; all of their connections are destroyed at its end (SOCK_DESTROY), and
all settings put back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from segue.engine.loaded import Loaded, load
from segue.lab.policies import compiled, named
from segue.linux import netns, snmp, sysctl
from segue.linux.closing import Closing
from segue.linux.sock_diag import SockDiag
from segue.linux.tun import Tun

CLIENTS = {4: "10.78.1.0", 6: "fd78::1:0"}  # of the first story
SERVERS = {4: "10.78.0.2", 6: "fd78::2"}
WRITE_MEMORY = 16384  # bytes for what is written, at first (tcp_wmem)
MOST_STORIES = 5000  # on one stage
_LENGTHS = {4: 16, 6: 64}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# What the model assumes.  Reno may be chosen in every namespace.
_SETTINGS = {
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": f"4096 {WRITE_MEMORY} 4194304",
    "tcp_congestion_control": "reno",
}


@dataclass(slots=True)
class Programs(Closing):
    """Policies in the kernel, for one story at a time: to load one costs as much as some stories.

    Who has one takes out of its maps what he put in, before he gives it back.
    """

    _idle: dict[tuple[str, bool], list[Loaded]] = field(default_factory=dict)
    _all: list[Loaded] = field(default_factory=list)

    def take(self, policy: str, *, migrates: bool) -> Loaded:
        """Raises UsageError for a name that there is not, KernelError without CAP_BPF."""
        if idle := self._idle.get((policy, migrates)):
            return idle.pop()
        made = load(compiled(named(policy)), migrates=migrates)
        self._all.append(made)
        return made

    def give(self, policy: str, loaded: Loaded, *, migrates: bool) -> None:
        """Back, with empty maps."""
        self._idle.setdefault((policy, migrates), []).append(loaded)

    def close(self) -> None:
        """Let go of all; twice is no error."""
        self._idle.clear()
        while self._all:
            self._all.pop().close()


class Stage(Closing):
    """One, which no thread is on yet.  Needs CAP_SYS_ADMIN and /dev/net/tun.  Raises KernelError.

    ``told`` is how many stories have ended here; ``programs`` may be shared with other stages.
    """

    def __init__(self, programs: Programs) -> None:
        self.told = 0
        self.programs = programs
        self._changed: set[str] = set()  # settings, by this story
        self._usual: dict[str, str] = {}  # those that any story has changed, as they were
        with ExitStack() as undo:
            inside = undo.enter_context(netns.fresh())
            made = ExitStack()
            undo.push(made)
            self._namespace = os.dup(inside)
            made.callback(os.close, self._namespace)
            self.tun = made.enter_context(Tun("story%d"))
            for version, server in SERVERS.items():
                self.tun.configure(f"{server}/{_LENGTHS[version]}")
            for name, value in _SETTINGS.items():
                sysctl.write(f"net.ipv4.{name}", value)
            self.counters = made.enter_context(snmp.Counters())
            self._sockets = made.enter_context(SockDiag())
            self._made = made.pop_all()

    @property
    def is_worn(self) -> bool:
        """It has no addresses left for another story."""
        return self.told >= MOST_STORIES

    def enter(self) -> None:
        """The calling thread goes there, and stays."""
        netns.enter(self._namespace)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is there inside the block."""
        with netns.kept():
            self.enter()
            yield

    def clients(self) -> dict[int, str]:
        """Where the clients of the next story are."""
        high, low = divmod(self.told, 256)
        return {4: f"10.78.{1 + high}.{low}", 6: f"fd78::{1 + high:x}:{low:x}"}

    def mtu(self, size: int) -> None:
        """Of the interface."""
        self.tun.configure(f"{SERVERS[4]}/{_LENGTHS[4]}", mtu=size)

    def sysctl(self, name: str, value: str) -> None:
        """Set one until the story's end.  The calling thread is here."""
        if name not in self._usual:
            self._usual[name] = sysctl.read(name)
        self._changed.add(name)
        sysctl.write(name, value)

    def clear(self, version: int, ports: list[tuple[int, int]]) -> None:
        """End a story whose sockets are closed, with connections over these ports: the server's
        and the client's.  The calling thread is here.
        """
        server, client = SERVERS[version], self.clients()[version]
        for here, there in ports:
            while self._sockets.destroy(_FAMILIES[version], (server, here), (client, there)):
                pass
        while self._changed:
            name = self._changed.pop()
            sysctl.write(name, self._usual[name])
        while self.tun.read() is not None:
            pass
        self.told += 1

    def close(self) -> None:
        """Remove it; twice is no error."""
        self._made.close()
