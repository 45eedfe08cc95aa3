"""Which engine works here: decided by trying it, not by what files exist.

A kernel may have the switch without the code (5.10.188), or migrate and wake nobody
(CVE-2026-46015), and whether eBPF may be used depends on more than one capability.  So two
listeners are made, a connection is queued at the first, the first is closed, and the second
either gets it or does not.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from segue.address import Address
from segue.engine.defects import KernelRelease, doubts, forbids_migration, wakes
from segue.engine.drain import Drain
from segue.engine.hash import Hash
from segue.engine.migrate import Migrate
from segue.engine.steering import Steering
from segue.errors import KernelError, NotSupported, SegueError
from segue.linux import features, netns, sysctl
from segue.linux.features import Answer
from segue.linux.sock_diag import SockDiag, State
from segue.linux.sockopt import open_listener

SYSCTL = "net.ipv4.tcp_migrate_req"
_WAKE_SECONDS = 0.3  # an idle listener wakes within a millisecond where it wakes at all
_CONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine to use, whether migrated connections need a nudge, and why."""

    engine: str
    nudge: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Experiment:
    """What an experiment showed; ``error`` says why it could not be made."""

    migrated: bool = False
    woken: bool = False
    error: str = ""
    where: str = ""


def choose(wanted: str = "auto", release: str | None = None) -> EngineChoice:
    """The best engine that works here, or ``wanted`` if that one does.

    ``release`` is the kernel's by default.  Takes at most about half a second.  Raises
    NotSupported when the wanted one does not work, or none does, as where sockets are not listed.
    """
    with SockDiag() as diag:
        diag.dump([State.LISTEN], family=socket.AF_INET)
    kernel = KernelRelease.running() if release is None else KernelRelease.parse(release)
    forbidden = forbids_migration(kernel) if kernel else None
    if wanted == "drain":
        return _drain("asked for")
    refusals: list[str] = []
    for engine, attempt in (("migrate", try_migrate), ("hash", try_hash)):
        if wanted not in {"auto", engine}:
            continue
        trial = Experiment(error=forbidden) if forbidden else attempt()
        if trial.migrated:
            reasons = [f"a queued connection migrated to another listener {trial.where}"]
            if not trial.woken:
                reasons.append(
                    "it did not wake that listener, so it is nudged"
                    f" ({(kernel and wakes(kernel)) or 'CVE-2026-46015'})"
                )
            if kernel and (doubt := doubts(kernel)):
                reasons.append(doubt)
            if refusals:
                reasons.append(f"not migrate: {refusals[0]}")
            return EngineChoice(engine, not trial.woken, tuple(reasons))
        refusals.append(trial.error or f"a queued connection was lost {trial.where}")
    if wanted != "auto":
        raise NotSupported(
            f"the engine {wanted}",
            "a kernel and permissions with which a queued connection migrates",
            refusals[0],
        )
    return _drain(*(f"not {name}: {why}" for name, why in _named(refusals)))


def _drain(*reasons: str) -> EngineChoice:
    steers = features.ask("reuseport_cbpf")
    if steers.answer is Answer.NO:
        raise NotSupported("the engine drain", "Linux 4.6 or later", steers.reason)
    return EngineChoice("drain", reasons=reasons)


def _named(refusals: list[str]) -> list[tuple[str, str]]:
    names = ["migrate", "hash"]
    # One rule that forbids both is said once.
    return (
        list(zip(names, refusals, strict=True))
        if len(set(refusals)) > 1
        else [("migrate", refusals[0])]
    )


def try_migrate() -> Experiment:
    """Whether an eBPF program migrates here; in a network namespace of its own if it may."""
    return apart(lambda: experiment(Migrate()))


def try_hash() -> Experiment:
    """Whether the kernel's own migration is on here; the present namespace is asked, whose
    switch it is, on a port of its own on loopback.
    """
    try:
        switch = sysctl.read(SYSCTL)
    except SegueError as error:
        return Experiment(error=str(error))
    if switch != "1":
        return Experiment(error=f"{SYSCTL} is {switch}")
    trial = experiment(Hash())
    return Experiment(trial.migrated, trial.woken, trial.error, "on a private port")


def try_drain() -> Experiment:
    """Whether classic BPF steers here; ``migrated`` then says that it went where it should."""
    steering, listeners = Drain(), []
    address = free_address()
    try:
        for slot in (0, 1):
            listeners.append(open_listener(address, backlog=8))
            steering.join(slot, listeners[slot])
        arrived = [_arrives(steering, slot, listeners[slot], address) for slot in (0, 1)]
    except (SegueError, OSError) as error:
        return Experiment(error=str(error))
    finally:
        for one in listeners:
            one.close()
        steering.close()
    return Experiment(migrated=all(arrived), woken=True, where="on a private port")


def _arrives(steering: Steering, slot: int, listener: socket.socket, address: Address) -> bool:
    """Several connections, so that chance cannot pass for steering."""
    steering.share({slot: 1.0})
    listener.setblocking(False)
    for _ in range(8):
        where = (address.host, address.port)
        with socket.create_connection(where, timeout=_CONNECT_SECONDS):
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return False
    return True


def apart(work: Callable[[], Experiment]) -> Experiment:
    """Do it in a thread that enters a network namespace of its own, else right here.

    What ``work`` raises of Segue's errors becomes the ``error``.
    """
    result: list[Experiment] = []

    def inside() -> None:
        try:
            with netns.fresh():
                trial = work()
                where = "in a namespace of its own"
        except KernelError:
            return  # no CAP_SYS_ADMIN: here, then
        except SegueError as error:
            trial, where = Experiment(error=str(error)), ""
        result.append(Experiment(trial.migrated, trial.woken, trial.error, where))

    # Entering a namespace is a thread's business: this one ends with it.
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if result:
        return result[0]
    try:
        trial = work()
    except SegueError as error:
        return Experiment(error=str(error))
    return Experiment(trial.migrated, trial.woken, trial.error, "on a private port")


def experiment(steering: Steering) -> Experiment:
    """Queue a connection at one of two listeners, close that one, and see who gets it."""
    open_sockets: list[socket.socket] = []
    try:
        return _experiment(steering, open_sockets)
    except (SegueError, OSError) as error:
        return Experiment(error=str(error))
    finally:
        for one in open_sockets:
            one.close()
        steering.close()


def _experiment(steering: Steering, open_sockets: list[socket.socket]) -> Experiment:
    address = free_address()
    first = open_listener(address, backlog=8)
    open_sockets.append(first)
    second = open_listener(address, backlog=8)
    open_sockets.append(second)
    steering.join(0, first)
    steering.join(1, second)
    steering.share({0: 1.0})
    client = socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS)
    open_sockets.append(client)
    client.sendall(b"?")
    steering.share({1: 1.0})
    with select.epoll() as epoll:
        epoll.register(second, select.EPOLLIN)
        steering.leave(0, first)
        woken = bool(epoll.poll(_WAKE_SECONDS))
    second.setblocking(False)
    try:
        child, _ = second.accept()
    except BlockingIOError:
        return Experiment(woken=woken)
    with child:
        return Experiment(migrated=child.recv(1) == b"?", woken=woken)


def free_address() -> Address:
    """A loopback address nobody has now.  A port the kernel chose is lost by a second listen(),
    so it is only asked which one is free.
    """
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", asked.getsockname()[1])
