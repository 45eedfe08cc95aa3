"""A world that the test turns: real sockets and children, and a kernel that can refuse any call.

Each child is a ``sleep`` that has every signal blocked, so that what it was sent can be read from
/proc and only the test (or SIGKILL) ends it.  A steering remembers what it is told, as an engine
does; an observer shows the listeners that are open, with queues that the test has set.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

from segue.address import Address
from segue.engine.own_member import OwnMember
from segue.engine.programs import ProgramChoice
from segue.engine.select import EngineChoice
from segue.errors import KernelError, UsageError
from segue.group import Group, Listener
from segue.linux.sockopt import cookie, is_listening, open_listener
from segue.observe.snapshot import Observer, Part
from segue.supervisor.control.log import Level, Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.instance import Instance, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.loop import HasFileno, Loop, Rank
from segue.supervisor.run.runner import Runner
from segue.supervisor.run.service import Asked, Service
from segue.supervisor.settings import FIRST_FD, Bind, Settings
from segue.supervisor.source import Source
from segue.supervisor.workers.leftovers import Leftovers
from segue.supervisor.workers.spawn import Child
from segue.supervisor.world import World


@dataclass
class Refusals:
    """Which calls the kernel refuses: some kinds of them, from one on of a kind, or by number."""

    kinds: set[str] = field(default_factory=set)
    after: dict[str, int] = field(default_factory=dict)
    numbers: range = range(0)
    asked: list[str] = field(default_factory=list)

    def ask(self, call: str) -> None:
        """Raise KernelError if this call is refused."""
        number, of_kind = len(self.asked), self.asked.count(call)
        self.asked.append(call)
        late = call in self.after and of_kind >= self.after[call]
        if call in self.kinds or late or number in self.numbers:
            raise KernelError(call, errno.ENOMEM, "asking the test")


class Recording:
    """A ``Steering`` by the letter of the protocol, without a kernel behind it."""

    name = "migrate"
    weighs = True
    own_port = 0

    def __init__(self, world: Simulated) -> None:
        self.migrates = world.migrates
        self._world = world
        self.refuses_shares = False
        self.members: dict[int, socket.socket] = {}
        self.weights: dict[int, float] = {}
        self.pins: dict[int, int] = {}

    def join(self, slot: int, listener: socket.socket) -> None:
        if slot in self.members:
            raise UsageError(f"slot {slot} has a listener already")
        self._world.refusals.ask("join")
        self.members[slot] = listener

    def share(self, weights: Mapping[int, float]) -> None:
        if not weights.keys() <= self.members.keys() or not any(weights.values()):
            raise UsageError(f"nobody can have the shares {dict(weights)}")
        self._world.refusals.ask("share")
        if self.refuses_shares:
            raise KernelError("share", errno.ENOMEM, "asking the test")
        self.weights = {slot: weight for slot, weight in weights.items() if weight}

    def pin(self, port: int, slot: int) -> None:
        self._world.refusals.ask("pin")
        self.pins[port] = slot

    def unpin(self, port: int) -> None:
        self._world.refusals.ask("unpin")
        self.pins.pop(port, None)

    def rejoin(self, slot: int, listener: socket.socket) -> None:
        self._world.refusals.ask("rejoin")

    def leave(self, slot: int, listener: socket.socket, *, end: bool = False) -> None:
        left = cookie(listener)
        with listener:
            self.members.pop(slot, None)
            self.weights.pop(slot, None)
            self._left(left)
            self._world.refusals.ask("leave")

    def attach(self, listener: socket.socket) -> None:
        self._world.refusals.ask("attach")

    def look_after(self, own: OwnMember) -> bool | None:
        self._world.refusals.ask("look after")
        return True

    def _left(self, left: int) -> None:
        """What waited there migrates to another member, or is lost."""
        waited = self._world.queues.pop(left, 0)
        if self.migrates and self.members:
            taker = next((self.members[slot] for slot in self.weights), None)
            self._world.queues[cookie(taker or next(iter(self.members.values())))] += waited
        else:
            self._world.lost += waited

    def close(self) -> None:
        self.members.clear()


class Watching(Observer):
    """Shows the members of every steering of the test, with the queues that it has set."""

    def __init__(self, world: Simulated) -> None:
        self._world = world

    def snapshot(self, address: Address, *parts: Part, pids: frozenset[int] = frozenset()) -> Group:
        self._world.refusals.ask("snapshot")
        listeners = [
            Listener(
                cookie=cookie(one),
                address=address,
                inode=os.fstat(one.fileno()).st_ino,
                uid=os.geteuid(),
                queue=self._world.queues[cookie(one)],
                backlog=16,
                drops=0,
            )
            for steering in self._world.steerings
            for one in steering.members.values()
            if is_listening(one) and one.getsockname()[1] == address.port
        ]
        return Group(address, tuple(listeners))

    def overlapping(self, address: Address) -> list[Address]:
        return []

    def everywhere(self) -> list[tuple[int, int, Address, bool]]:
        return []

    def serving(self, address: Address) -> Address:
        return address

    def close(self) -> None:
        pass


class Refusing(Loop):
    """A loop whose selector may have no room."""

    refusals: Refusals | None = None

    def watch(
        self, file: HasFileno | int, handler: Callable[[], object], rank: Rank = Rank.ASKED
    ) -> None:
        if self.refusals is not None:
            self.refusals.ask("watch")
        super().watch(file, handler, rank)


@dataclass(slots=True)
class Heard(Log):
    """A log that is kept."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str, level: Level = "info") -> None:
        self.lines.append(text)

    def pass_on(self, label: str, fields: Mapping[str, int], lines: Any) -> None:
        self.lines += [f"{label} | {line}" for line in lines]

    def __contains__(self, words: str) -> bool:
        return any(words in line for line in self.lines)


@dataclass(frozen=True, slots=True)
class Disk(Paths):
    """Paths in a directory of the test's, on a disk that may be full."""

    refusals: Refusals = field(default_factory=Refusals)

    def write_record(self, plain: dict[str, Any]) -> None:
        self.refusals.ask("write record")
        Paths.write_record(self, plain)

    def lock(self) -> int:
        self.refusals.ask("lock")
        return Paths.lock(self)

    def write_flag(self, worker: int, page: bytes, size: int, owner: int | None = None) -> None:
        self.refusals.ask("write flag")
        Paths.write_flag(self, worker, page, size, owner)


class Quiet(Leftovers):
    """No worker leaves anything: a look at every process of the machine is spared."""

    def end(self, *_: Any) -> str:
        return ""

    def keep(self, *_: Any) -> str:
        return ""


class Simulated:
    """The functions of a ``World``, and what the test asks of them."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self.time = 1000.0
        self.queues: Counter[int] = Counter()  # by cookie
        self.lost = 0  # connections that waited at a listener that was closed
        self.steerings: list[Recording] = []
        self.migrates = True
        self.nudge = False
        self.observer: Callable[[], Observer] = lambda: Watching(self)
        self.children: dict[int, Child] = {}  # that have not been ended
        self.spawned: list[dict[str, Any]] = []
        self._ended: list[tuple[int, int]] = []
        self._outputs: dict[int, int] = {}  # what children print into

    def world(self) -> World:
        return World(
            now=lambda: self.time,
            spawn=self.spawn,
            reap=self.reap,
            choose=lambda _: EngineChoice("migrate", nudge=self.nudge, reasons=("the test's",)),
            steering=self.steering,
            restore=lambda engine, program, _: self.steering(engine, program),
            observer=self.observer,
            listen=self.listen,
            loop=self.loop,
        )

    def spawn(self, argv: list[str], **given: Any) -> Child:
        self.refusals.ask("spawn")
        self.spawned.append({"argv": argv, **given})
        pid = os.posix_spawn(
            "/bin/sleep",
            ["sleep", "1000"],
            given["env"],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, one, FIRST_FD + place)
                for place, one in enumerate(given["inherit"])
            ],
            setsigmask=signal.valid_signals(),
            setsid=True,
        )
        made = self.children[pid] = Child(pid, os.pidfd_open(pid))
        # Until exec has closed what is not for it: what the test closes is closed then.
        name = Path(f"/proc/{pid}/comm")
        wait_until(lambda: name.read_text() == "sleep\n", "the program of a child")
        if given["output"] is not None:
            self._outputs[pid] = os.dup(given["output"])
        return made

    def print(self, pid: int, text: str) -> None:
        """This child prints something."""
        os.write(self._outputs[pid], text.encode())

    def adopt_orphan(self, pid: int, code: int) -> None:
        """``reap`` tells of a child that nobody here started."""
        self._ended.append((pid, code))

    def reap(self) -> list[tuple[int, int]]:
        for pid in list(self.children):
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found:
                self.end(pid, -found.si_status)  # killed by what is tested
        ended, self._ended = self._ended, []
        return ended

    def steering(self, engine: str, program: ProgramChoice) -> Recording:
        made = Recording(self)
        self.steerings.append(made)
        return made

    def listen(self, address: Address, **given: Any) -> socket.socket:
        self.refusals.ask("listen")
        return open_listener(address, **given)

    def loop(self, say: Callable[[str], None], now: Callable[[], float]) -> Loop:
        made = Refusing(say, now)
        made.refusals = self.refusals
        return made

    def end(self, pid: int, code: int) -> None:
        """This child has ended so; ``reap`` tells it."""
        del self.children[pid]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        self._ended.append((pid, code))
        if pid in self._outputs:
            os.close(self._outputs.pop(pid))

    def close(self) -> None:
        for pid in list(self.children):
            self.end(pid, 0)


def signals_of(pid: int) -> set[int]:
    """The signals that a child of the test's was sent."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(one for one in status.splitlines() if one.startswith("ShdPnd:"))
    bits = int(line.split()[1], 16)
    return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}


class Round:
    """A subject that is over after one round of another, which is not waited in."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._done = False
        self.looks = ()

    def settle(self) -> None:
        self._runner.settle()

    def over(self) -> bool:
        return self._done or self._runner.over()

    def deadline(self) -> float:
        return 0.0

    def tick(self) -> None:
        self._done = True
        self._runner.tick()


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def settings_of(addresses: int = 1, **more: Any) -> Settings:
    """Settings of a test: ready by notification, no pipes, no looks for stalls."""
    binds = tuple(
        Bind(f"bind{number}", Address("127.0.0.1", free_port())) for number in range(addresses)
    )
    usual = {"ready": "notify", "output": "raw", "rescue": "off", "name": "web", "workers": 2}
    return Settings(binds, ("serve",), **{**usual, **more})


class Run:
    """One ``segue run`` in a simulated world, round by round; closes what it opened."""

    def __init__(
        self,
        directory: Path,
        settings: Settings | None = None,
        simulated: Simulated | None = None,
        instance: Instance | None = None,
    ) -> None:
        self.simulated = simulated or Simulated()
        self.settings = settings or settings_of()
        self.log = Heard()
        self.paths = Disk(str(directory / "web"), self.simulated.refusals)
        world, source = self.simulated.world(), Source(str(directory))
        service = Service(
            self.settings,
            self.paths,
            self.paths.lock(),
            self.log,
            world.choose("auto"),
            world,
            instance or Instance(size=self.settings.workers),
            source,
            lambda _: (self.settings, source),
        )
        self.asked = Asked(self.settings, source, service.reread)
        self.clients: list[Asking] = []
        service.leftovers = Quiet(world.now, service.say, service.waiting.spared)
        self.own(Runner(service))

    def own(self, runner: Runner) -> None:
        """Go on with this runner."""
        self.runner, self.service = runner, runner.service
        self.instance = runner.service.instance
        self.performer = runner.performer
        self.orders = runner.orders

    # The test's hands

    def give(self) -> None:
        """Nothing is refused any more."""
        self.simulated.refusals.kinds.clear()
        self.simulated.refusals.numbers = range(0)

    def refuse(self, *kinds: str) -> None:
        """From now on the kernel refuses these."""
        self.simulated.refusals.kinds.update(kinds)

    def round(self, seconds: float = 0.0) -> None:
        """Some time passes; then one round of the loop."""
        self.simulated.time += seconds
        self.service.loop.run(Round(self.runner))

    def settle(self, seconds: float = 0.0) -> None:
        """Some time passes, and what is due is done; nothing is heard of yet."""
        self.simulated.time += seconds
        self.runner.settle()

    def bind(self, worker: int) -> int:
        """This worker opens its listener itself, and it is found; its cookie."""
        front = self.service.fronts[0]
        held = front.adopt(open_listener(front.bind.address, backlog=16))
        self.worker(worker).listeners = (held,)
        return held.cookie

    def ready(self, *workers: int) -> None:
        """These workers (all that start, without any) say that they are ready; one round."""
        for process in self.service.processes:
            if process.worker.stage is Stage.STARTING and (
                not workers or process.worker.id in workers
            ):
                process.readiness.notified(ready=True)
        self.round(0.01)
        self.service.loop.run(Round(self.runner))

    def serve(self) -> None:
        """The first generation serves."""
        self.round()
        self.ready()

    def ask(self, verb: str, **given: Any) -> Asking:
        """A client asks by the control socket; three rounds, in which that is heard."""
        made = Asking(self.paths.control, {"do": verb, **given})
        self.clients.append(made)
        for _ in range(3):
            self.round(0.01)
        return made

    def end(self, worker: int, code: int = 0) -> None:
        """A worker's process ends; two rounds, in which that is heard."""
        self.simulated.end(self.instance.workers[worker].pid, code)
        self.round()
        self.round(0.01)

    def wait(self, worker: int, count: int, bind: int = 0) -> int:
        """So many clients wait at a worker's listener; its cookie."""
        held = next(one for one in self.instance.workers[worker].listeners if one.bind == bind)
        self.simulated.queues[held.cookie] = count
        return held.cookie

    def forget(self) -> None:
        """Exec: descriptors stay open, everything else of the run is gone."""
        service = self.service
        self.runner.rescue.close()
        for front in service.fronts:
            for listener in front.sockets.values():
                listener.detach()
            front.sockets.clear()
            front.steering.close()
        doors = service.doors
        if doors.clients is not None and doors.clients.control is not None:
            doors.clients.control.socket.detach()
        if doors.inbox is not None:
            doors.inbox.socket.detach()
        for client in service.waiting.clients:
            client.connection.detach()
        service.flow.close()
        service.loop.close()

    def die(self) -> None:
        """The supervisor is killed: its descriptors are closed, its files stay, workers run on."""
        service = self.service
        self.runner.rescue.close()
        for front in service.fronts:
            front.close()
        for process in service.processes:
            os.close(process.child.pidfd)
            if process.pipe is not None:
                process.pipe.close()
        service.flow.close()
        service.observer.close()
        service.loop.close()
        if service.doors.lock is not None:
            os.close(service.doors.lock)

    # What the test sees

    @property
    def stages(self) -> dict[int, str]:
        """The stages of living workers, by id."""
        return {one.id: one.stage.name for one in self.instance.living}

    def worker(self, number: int) -> Worker:
        """This worker."""
        return self.instance.workers[number]

    def signals(self, worker: int) -> set[int]:
        """What a worker was sent."""
        return signals_of(self.worker(worker).pid)

    def shares(self, bind: int = 0) -> dict[int, float]:
        """What the steering of an address was told, by worker."""
        by_slot = {
            one.slot: worker.id
            for worker in self.instance.living
            for one in worker.listeners
            if one.bind == bind
        }
        steering = self.service.fronts[bind].steering
        assert isinstance(steering, Recording)
        told = steering.weights
        return {by_slot[slot]: weight for slot, weight in told.items()}

    def held(self) -> set[int]:
        """Cookies of all listeners that are held."""
        return {one for front in self.service.fronts for one in front.cookies}

    def close(self) -> None:
        self.give()
        for client in self.clients:
            client.close()
        self.service.waiting.close()
        self.runner.close()
        self.simulated.close()


class Asking:
    """A client of the control socket; closes it when it has read the end."""

    def __init__(self, path: str, request: Mapping[str, Any]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.socket.sendall(json.dumps(dict(request)).encode() + b"\n")
        self._text = b""
        self.hung_up = False

    def _read(self) -> list[dict[str, Any]]:
        try:
            while not self.hung_up:
                data = self.socket.recv(1 << 16)
                self.hung_up = not data
                self._text += data
        except BlockingIOError:
            pass
        except ConnectionResetError:  # answered before the request was read
            self.hung_up = True
        return [json.loads(line) for line in self._text.splitlines()]

    @property
    def said(self) -> list[str]:
        """Lines of progress so far."""
        return [one["say"] for one in self._read() if "say" in one]

    @property
    def ends(self) -> list[dict[str, Any]]:
        """Final answers so far; there may be one at most."""
        return [one for one in self._read() if "exit" in one]

    @property
    def end(self) -> dict[str, Any] | None:
        """The answer, or None while there is none."""
        ends = self.ends
        assert len(ends) <= 1
        return ends[0] if ends else None

    def close(self) -> None:
        self.socket.close()
