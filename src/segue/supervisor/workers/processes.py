"""The processes of an instance: one Process for each live worker, with all that belongs to it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from segue.errors import UsageError
from segue.linux import openat, pidfd, proc
from segue.linux.sockopt import lock_filter
from segue.supervisor.control.paths import Paths
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.instance import Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.settings import FIRST_FD, Settings
from segue.supervisor.workers.identity import Identity, Rights
from segue.supervisor.workers.injection import Injection
from segue.supervisor.workers.pipe import Pipe
from segue.supervisor.workers.readiness import Readiness
from segue.supervisor.workers.spawn import Child, Spawning
from segue.worker import DRAINING, SERVING, VARIABLE

# What a service manager said to the supervisor, and would be wrong of a worker (sd_listen_fds(3),
# sd_notify(3), sd_watchdog_enabled(3)).
_OF_THE_SUPERVISOR = (
    "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
    "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID",
)  # fmt: skip
# Processes in one look at all workers: each costs a tenth of a millisecond, while everybody else
# waits.  A worker that forks for each client may have thousands.
LOOKED_AT = 128
_FEWEST = 4  # of one worker, however many workers there are


def part(workers: int) -> int:
    """At how many processes of each of so many workers one look looks."""
    return max(_FEWEST, LOOKED_AT // max(1, workers))


@dataclass(slots=True)
class Process:
    """One live worker's process, output and readiness; closes what is open."""

    worker: Worker
    child: Child
    pipe: Pipe | None
    readiness: Readiness
    flag: str

    def set_draining(self, draining: bool) -> None:  # noqa: FBT001  the flag's two values
        """Tell the worker, which has the file mapped (segue.worker)."""
        value = DRAINING if draining else SERVING
        with (
            contextlib.suppress(OSError, UsageError),
            openat.around(self.flag) as (here, name),
            open(here.file(name, os.O_WRONLY), "wb", buffering=0) as file,
        ):
            file.write(bytes([value]))

    def tree(self, most: int | None = None) -> tuple[int, ...]:
        """The worker and all its descendants; () when it has ended, as its pid may be another's.

        With ``most``, as in ``proc.tree``.
        """
        found = proc.tree(self.child.pid, most)
        return () if pidfd.ended(self.child.pidfd) else found

    def signal(self, number: int) -> None:
        """Signal the worker itself, by pidfd: a pid that was reused cannot be hit."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.child.pidfd, number)

    def kill(self) -> None:
        """SIGKILL the worker and every process it left in its tree."""
        below = proc.below(self.child.pid)
        if not pidfd.ended(self.child.pidfd):  # else the pid that was looked up may be another's
            for pid, born in below.items():
                pidfd.signal_same(pid, born, signal.SIGKILL)
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Close pidfd, pipe and knocks; remove the flag."""
        self.readiness.close()
        os.close(self.child.pidfd)
        if self.pipe is not None:
            self.pipe.close()
        openat.remove(self.flag)


class Processes:
    """Every live process by worker id."""

    def __init__(self, settings: Settings, paths: Paths, spawn: Spawning) -> None:
        self.settings, self.paths, self._spawn = settings, paths, spawn
        self.identity = Identity.of(settings.user, settings.group)
        self.rights = rights_of(settings)
        self.files: tuple[int, int] | None = None  # RLIMIT_NOFILE of workers; None for as here
        self.injection: Injection | None = None  # with --inject, from before the first start
        self.by_worker: dict[int, Process] = {}

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self.by_worker.values()))

    def start(self, worker: Worker, fronts: list[Front]) -> Process:
        """Spawn the command for this worker with its held listeners as descriptors 3 and on.

        Raises KernelError or OSError when it cannot; nothing is left behind then.
        """
        settings = self.settings
        listeners = [
            fronts[held.bind].sockets[held.slot]
            for held in sorted(worker.listeners, key=lambda held: held.bind)
        ]
        if self.identity is not None and self.identity.uid != os.geteuid():
            # With one of our own user it would be for nothing: such a worker may open a process of
            # the group itself, and look into the supervisor.
            for listener in listeners:
                lock_filter(listener)
        inherit = [listener.fileno() for listener in listeners]
        argv = settings.arguments([FIRST_FD + place for place in range(len(settings.binds))])
        flag = self.paths.flag(worker.id)
        self.paths.write_flag(worker.id, SERVING)
        pipe: Pipe | None = None
        try:
            if settings.output != "raw":
                pipe = Pipe.open()
                worker.pipe = pipe.inode
            if pipe is not None and self.identity is not None:
                # So that the worker may open /dev/stdout by name; without CAP_CHOWN it cannot.
                with contextlib.suppress(PermissionError):
                    os.fchown(pipe.writer, self.identity.uid, self.identity.gid)
            child = self._spawn(
                argv,
                env=self._environment(worker, flag, len(inherit)),
                inherit=inherit,
                output=None if pipe is None else pipe.writer,
                identity=self.identity,
                rights=self.rights,
                files=self.files,
                cgroup_door=None if self.injection is None else self.injection.door,
            )
        except BaseException:
            openat.remove(flag)
            if pipe is not None:
                pipe.close()
            raise
        worker.pid, worker.start_ticks = child.pid, proc.start_time(child.pid) or 0
        if pipe is not None:
            pipe.started()
        return self.add(worker, child, pipe)

    def add(self, worker: Worker, child: Child, pipe: Pipe | None) -> Process:
        """Take a process that runs already into the processes."""
        if pipe is not None:
            pipe.label = f"worker {worker.generation}.{worker.id}"
            pipe.fields = {"generation": worker.generation, "worker": worker.id, "pid": child.pid}
        readiness = Readiness(self.settings.ready, self.settings.ready_http)
        process = Process(worker, child, pipe, readiness, self.paths.flag(worker.id))
        self.by_worker[worker.id] = process
        return process

    def _environment(self, worker: Worker, flag: str, inherited: int) -> dict[str, str]:
        env = dict(os.environ)
        for name in _OF_THE_SUPERVISOR:
            env.pop(name, None)
        env.update({pair.partition("=")[0]: pair.partition("=")[2] for pair in self.settings.env})
        env["NOTIFY_SOCKET"] = self.paths.notify
        env[VARIABLE] = flag
        env["SEGUE_GENERATION"] = str(worker.generation)
        env["SEGUE_NAME"] = self.paths.name
        # Told once: a command that takes {fd} as an argument gets no LISTEN_FDS as well, which
        # gunicorn, for one, would take for a second listener with the same number.
        if inherited and not any("{fd}" in word for word in self.settings.command):
            env["LISTEN_FDS"] = str(inherited)
            env["LISTEN_FDNAMES"] = ":".join(bind.name for bind in self.settings.binds)
        return env

    def trees(self) -> tuple[dict[int, frozenset[int]], frozenset[int]]:
        """Processes by worker, as many as one look may cost; and who has more than those.

        All workers have the same part of them, whatever the others have.
        """
        most = part(len(self.by_worker))
        found = {process.worker.id: process.tree(most) for process in self}
        crowded = frozenset(one for one, pids in found.items() if len(pids) > most)
        return {one: frozenset(pids[:most]) for one, pids in found.items()}, crowded

    def of_process(self, pid: int) -> Process | None:
        """The process in whose tree this process is, unless it is very deep in it.

        Found from below: it has one parent, and a worker may have thousands of children.
        """
        by_pid = {process.child.pid: process for process in self}
        return next((by_pid[one] for one in proc.line_above(pid) if one in by_pid), None)

    @property
    def users(self) -> frozenset[int]:
        """Whose processes workers are by the settings: root's, ours, those of ``--user``."""
        own = {0, os.geteuid()}
        return frozenset(own | {self.identity.uid} if self.identity else own)

    def became(self) -> frozenset[int]:
        """Whose processes the workers that start are now: a server may drop its rights itself."""
        starting = [one for one in self if one.worker.stage is Stage.STARTING]
        return frozenset(uid for one in starting if (uid := proc.uid(one.child.pid)) is not None)

    def remove(self, worker: int) -> None:
        """Forget a process whose process has ended, and close what was its."""
        process = self.by_worker.pop(worker, None)
        if process is not None:
            process.close()


def rights_of(settings: Settings) -> Rights:
    """A worker of another user gets no new privileges unless that is asked for.

    Raises UsageError for a capability that cannot be kept.
    """
    other = bool(settings.user or settings.group)
    return Rights.of(
        settings.keep_capability,
        new_privileges=settings.allow_new_privileges or not other,
    )


def end_leftovers(
    leader: int, flag: str, number: int, before: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Signal what a dead worker left running; which processes there were, with start times.

    A shell that is told to stop leaves its server running: the session still names it.  A server
    that made itself a daemon has a session of its own; it was given to us as its nearest
    subreaper, and its environment names the worker.  ``before`` is the last answer of this worker,
    None for the first.
    """
    mark = f"{VARIABLE}={flag}".encode()
    children = proc.children_born(os.getpid())
    daemons = {pid: born for pid, born in children.items() if mark in proc.environment(pid)}
    found = proc.session(leader)
    # Our whole tree is worth a look only where it decides.
    asked = bool(found) and before is not None and not before.items() & found.items()
    ours = proc.below(os.getpid()) if asked else {}
    left = {**same_session(found, before, ours), **daemons}
    left.pop(leader, None)
    if number:
        for pid, born in left.items():
            pidfd.signal_same(pid, born, number)
    return left


def same_session(
    found: Mapping[int, int], before: Mapping[int, int] | None, ours: Mapping[int, int]
) -> dict[int, int]:
    """Those processes of a dead leader's session that are its leftovers; each with start times.

    The kernel gives the leader's number to nobody while somebody is in its session.  So who is in
    it at the next look belongs to it if one of ``before`` is in it still.  If none is, the session
    may be that of a stranger who got the number, and only descendants of ``ours`` count.
    """
    if before is None or before.items() & found.items():
        return dict(found)
    return {pid: born for pid, born in found.items() if ours.get(pid) == born}
