"""The processes of an instance: one Process for each live worker, with its descriptors."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from segue import page
from segue.errors import KernelError, UsageError
from segue.linux import oom, openat, pidfd, proc
from segue.linux.sockopt import lock_filter
from segue.supervisor.control.paths import Paths
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.gentle import STOPPING
from segue.supervisor.lifecycle.instance import Start, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.settings import FIRST_FD, Settings
from segue.supervisor.workers import variables
from segue.supervisor.workers.groups import Groups
from segue.supervisor.workers.identity import Identity, Rights
from segue.supervisor.workers.injection import Injection
from segue.supervisor.workers.memory import Kills
from segue.supervisor.workers.pipe import Pipe
from segue.supervisor.workers.place import Place, path_of, program
from segue.supervisor.workers.readiness import Readiness
from segue.supervisor.workers.spawn import CHDIR, Child, Lowest, Spawning
from segue.supervisor.workers.weights import Weights
from segue.worker import VARIABLE

# Variables that a service manager set for the supervisor, and that would be wrong for a worker
# (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).
_OF_THE_SUPERVISOR = (
    "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
    "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "FDSTORE",
)  # fmt: skip
# Processes in one look at all workers.  Each costs a tenth of a millisecond, and the whole loop
# waits.  A worker that forks for each client may have thousands.
LOOKED_AT = 128
_FEWEST = 4  # of one worker, however many workers there are


def part(workers: int) -> int:
    """How many processes of each worker one look reads, if there are so many workers."""
    return max(_FEWEST, LOOKED_AT // max(1, workers))


@dataclass(slots=True)
class Process:
    """One live worker's process, output and readiness; owns their descriptors."""

    worker: Worker
    child: Child
    pipe: Pipe | None
    readiness: Readiness
    flag: str
    runs: Start | None = None  # None if an earlier supervisor started it
    spared: int | None = None  # the oom_score_adj that it gets back when it serves

    def tell(self, stage: int) -> None:
        """Tell the worker its stage, which has the file mapped (segue.worker)."""
        with (
            contextlib.suppress(OSError, UsageError),
            openat.around(self.flag) as (here, name),
            open(here.file(name, os.O_WRONLY), "wb", buffering=0) as file,
        ):
            file.write(bytes([stage]))

    def page(self) -> int | None:
        """The file of what it says of its peers (segue.page), the caller's to close.

        None if it cannot be read.
        """
        with (
            contextlib.suppress(OSError, UsageError),
            openat.around(self.flag) as (here, name),
        ):
            return here.file(name, os.O_RDONLY)
        return None

    def tree(self, most: int | None = None) -> tuple[int, ...]:
        """The worker and all its descendants; () if it has ended, because its pid may be reused.

        With ``most``, as in ``proc.tree``.
        """
        found = proc.tree(self.child.pid, most)
        return () if pidfd.ended(self.child.pidfd) else found

    def signal(self, number: int) -> None:
        """Signal the worker itself, by pidfd, which never reaches a process that reused its pid."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.child.pidfd, number)

    def expose(self) -> None:
        """Let the kernel end it before others when memory runs out, until ``spare``."""
        usual = oom.adjustment(self.child.pid)
        if usual is not None and usual < oom.FIRST and oom.adjust(self.child.pid, oom.FIRST):
            self.spared = usual

    def spare(self, most: int) -> None:
        """End that, for its children too, which have inherited it; as far as it is permitted."""
        usual, self.spared = self.spared, None
        known: set[int] = set()
        # Again for those that a process started before it was its turn.
        while usual is not None and (new := set(self.tree(most)) - known):
            known |= new
            for pid in new:
                if oom.adjustment(pid) == oom.FIRST:
                    oom.adjust(pid, usual)

    def kill(self) -> None:
        """Send SIGKILL to the worker and to every process in its tree.

        Raises OSError if the worker may not be signalled.
        """
        try:
            below = proc.below(self.child.pid)
            if not pidfd.ended(self.child.pidfd):  # otherwise the pid may be reused
                for pid, born in below.items():
                    pidfd.signal_same(pid, born, signal.SIGKILL)
        finally:
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

    def __init__(self, settings: Settings, paths: Paths, spawn: Spawning, start: str) -> None:
        self.settings, self.paths, self._spawn = settings, paths, spawn
        self.place = Place.of(settings, start)
        self.identity = Identity.of(settings.user, settings.group)
        self.rights = rights_of(settings)
        self.files: tuple[int, int] | None = None  # RLIMIT_NOFILE of workers; None for our own
        self.injection: Injection | None = None  # with --inject, from before the first start
        self.by_worker: dict[int, Process] = {}
        self.kills = Kills()
        self.weights = Weights(settings.gentle_start, settings.stop_timeout, Groups(paths.base))

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self.by_worker.values()))

    @property
    def locks(self) -> bool:
        """Filters of listeners, and of what they accept, cannot be changed from their start on."""
        return self.identity is not None and self.identity.uid != os.geteuid()

    def check(self, place: Place) -> None:
        """Whether what the settings name for a worker there is there.  Raises StartRefused."""
        os.close(place.open())
        variables.given(self.settings)

    def start(self, worker: Worker, fronts: list[Front], place: Place, *, gently: bool) -> Process:
        """Spawn the command for this worker with its held listeners as descriptors from 3 on.

        ``gently``: with the lowest weight until it is ready, where that can be.

        Raises StartRefused for what the settings name, KernelError or OSError for the rest, and
        then leaves nothing behind.
        """
        directory = place.open()
        try:
            return self._start(worker, fronts, place, directory, gently=gently)
        except KernelError as error:
            if error.call == CHDIR:
                name = f"the user {self.identity.name if self.identity else os.geteuid()}"
                raise place.refused(name) from error
            raise
        finally:
            os.close(directory)

    def _start(
        self, worker: Worker, fronts: list[Front], place: Place, directory: int, *, gently: bool
    ) -> Process:
        settings = self.settings
        listeners = [
            fronts[held.bind].sockets[held.slot]
            for held in sorted(worker.listeners, key=lambda held: held.bind)
        ]
        if self.locks:
            # It would not help against a worker of our own user, which may open another listener in
            # the group and look into the supervisor.
            for listener in listeners:
                lock_filter(listener)
        inherit = [listener.fileno() for listener in listeners]
        descriptors = [FIRST_FD + number for number in range(len(settings.binds))]
        argv = settings.arguments(descriptors, worker.generation, worker.id)
        flag = self.paths.flag(worker.id)
        env = self._environment(worker, flag, len(inherit), place)
        if settings.carry == "off" or (settings.carry == "auto" and self.locks):
            self.paths.write_flag(worker.id, bytes([page.SERVING]), 1)
        else:
            # Its user may then write there, and make it longer: that is asked for.
            owner = self.identity.uid if self.identity is not None else None
            self.paths.write_flag(worker.id, page.new(os.urandom(16)), page.BYTES, owner)
        pipe: Pipe | None = None
        groups = self.weights.groups
        processors_door = groups.door(worker.id)
        nice = gently and processors_door is None
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
                env=env,
                inherit=inherit,
                output=None if pipe is None else pipe.writer,
                identity=self.identity,
                rights=self.rights,
                files=self.files,
                cgroup_door=None if self.injection is None else self.injection.door,
                processors_door=processors_door,
                directory=directory,
                enter_as_user=place.chosen,
                lowest=self.weights.newcomer() if nice else Lowest(),
            )
        except BaseException:
            openat.remove(flag)
            groups.remove(worker.id)
            if pipe is not None:
                pipe.close()
            raise
        finally:
            if processors_door is not None:
                os.close(processors_door)
        worker.directory = path_of(directory)
        worker.pid, worker.start_ticks = child.pid, proc.start_time(child.pid) or 0
        if pipe is not None:
            pipe.started()
        if gently:
            # Not before exec, which the supervisor has waited for.
            groups.set_idle(worker.id, idle=True)
        process = self.add(worker, child, pipe)
        found = program(argv[0], env.get("PATH"), worker.directory) or argv[0]
        process.runs = Start(place.name, worker.directory, found, worker.started)
        process.expose()
        return process

    def add(self, worker: Worker, child: Child, pipe: Pipe | None) -> Process:
        """Add a process that already runs."""
        if pipe is not None:
            pipe.label = f"worker {worker.generation}.{worker.id}"
            pipe.fields = {"generation": worker.generation, "worker": worker.id, "pid": child.pid}
        readiness = Readiness(self.settings.ready, self.settings.ready_question)
        process = Process(worker, child, pipe, readiness, self.paths.flag(worker.id))
        self.by_worker[worker.id] = process
        self.weights.groups.adopt(worker.id, child.pid)
        if worker.stage in {Stage.STARTING, Stage.STANDBY}:
            if oom.adjustment(child.pid) == oom.FIRST:
                process.spared = oom.adjustment(os.getpid())  # of a predecessor
            self.weights.follow(worker, child.pid, worker.started)
        elif worker.stage is Stage.STOPPING:
            self.weights.follow(worker, child.pid, worker.stage_since, STOPPING)
        else:
            self.weights.groups.set_idle(worker.id, idle=False)  # whatever a predecessor did last
        self.kills.follow(worker.id, child.pid)
        return process

    def _environment(
        self, worker: Worker, flag: str, inherited: int, place: Place
    ) -> dict[str, str]:
        env = dict(os.environ)
        for name in _OF_THE_SUPERVISOR:
            env.pop(name, None)
        env.update(variables.given(self.settings))
        if self.settings.ready != "accept":
            # Some say at each start what they lack for sd_notify (puma, a gem).
            env["NOTIFY_SOCKET"] = self.paths.notify
        env[VARIABLE] = flag
        env["PWD"] = place.name
        env["SEGUE_GENERATION"] = str(worker.generation)
        env["SEGUE_WORKER_NUMBER"] = str(worker.id)
        env["SEGUE_NAME"] = self.paths.name
        # The descriptor is given once.  A command that has {fd} as an argument gets no LISTEN_FDS:
        # gunicorn, for example, would use it as a second listener with the same number.
        if inherited and not any("{fd}" in word for word in self.settings.command):
            env["LISTEN_FDS"] = str(inherited)
            env["LISTEN_FDNAMES"] = ":".join(bind.name for bind in self.settings.binds)
        return env

    def trees(
        self, only: Collection[int] | None = None
    ) -> tuple[dict[int, frozenset[int]], frozenset[int]]:
        """The processes by worker, within the limit of one look; and the workers that have more.

        Every worker has the same part of the limit, however many processes the others have, and
        whether or not ``only`` some of the workers are asked for.
        """
        most = part(len(self.by_worker))
        asked = [one for one in self if only is None or one.worker.id in only]
        found = {process.worker.id: process.tree(most) for process in asked}
        crowded = frozenset(one for one, pids in found.items() if len(pids) > most)
        return {one: frozenset(pids[:most]) for one, pids in found.items()}, crowded

    def of_process(self, pid: int) -> Process | None:
        """The worker's Process in whose tree this pid is, unless it is very deep in the tree.

        The search goes from child to parent: a process has one parent, but a worker may have
        thousands of children.
        """
        by_pid = {process.child.pid: process for process in self}
        return next((by_pid[one] for one in proc.line_above(pid) if one in by_pid), None)

    @property
    def users(self) -> frozenset[int]:
        """The users that workers may have by the settings: root, our own, that of ``--user``."""
        own = {0, os.geteuid()}
        return frozenset(own | {self.identity.uid} if self.identity else own)

    def became(self) -> frozenset[int]:
        """The present users of starting workers: a server may change its user itself."""
        starting = [one for one in self if one.worker.stage is Stage.STARTING]
        return frozenset(uid for one in starting if (uid := proc.uid(one.child.pid)) is not None)

    def remove(self, worker: int) -> None:
        """Forget the Process of an ended worker, and close its descriptors."""
        process = self.by_worker.pop(worker, None)
        self.kills.forget(worker)
        self.weights.forget(worker)
        if process is not None:
            process.close()


def flag_of(pid: int) -> str:
    """The flag of the worker that this process's environment names; "" if it names none."""
    mark = f"{VARIABLE}=".encode()
    found = (one for one in proc.environment(pid) if one.startswith(mark))
    return os.fsdecode(next(found, b"").removeprefix(mark))


def rights_of(settings: Settings) -> Rights:
    """The rights of workers; with another user, no new privileges unless the settings allow them.

    Raises UsageError for a capability that cannot be kept.
    """
    other = bool(settings.user or settings.group)
    return Rights.of(
        settings.keep_capability,
        new_privileges=settings.allow_new_privileges or not other,
    )


def find_leftovers(
    leader: int, flag: str, before: Mapping[int, int] | None = None
) -> dict[int, int]:
    """The processes that a dead worker left running, with their start times.

    A shell that is told to stop leaves its server running, which still has the shell's session.  A
    server that made itself a daemon has a session of its own.  It became our child because we are
    its nearest subreaper, and its environment names the worker.  ``before`` is the last answer for
    this worker, or None the first time.
    """
    mark = f"{VARIABLE}={flag}".encode()
    children = proc.children_born(os.getpid())
    daemons = {pid: born for pid, born in children.items() if mark in proc.environment(pid)}
    found = proc.session(leader)
    # A look at our whole tree is expensive, so it is made only if it decides.
    asked = bool(found) and before is not None and not before.items() & found.items()
    ours = proc.below(os.getpid()) if asked else {}
    left = {**same_session(found, before, ours), **daemons}
    left.pop(leader, None)
    return left


def same_session(
    found: Mapping[int, int], before: Mapping[int, int] | None, ours: Mapping[int, int]
) -> dict[int, int]:
    """The processes of a dead leader's session that are its leftovers, with their start times.

    The kernel does not reuse the leader's number while a process is in its session.  So if one of
    ``before`` is still in the session, every process in it belongs to the dead leader.  Otherwise a
    foreign process may have got the number, and only descendants of ``ours`` count.
    """
    if before is None or before.items() & found.items():
        return dict(found)
    return {pid: born for pid, born in found.items() if ours.get(pid) == born}
