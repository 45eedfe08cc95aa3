"""What becomes of a dead worker's listeners, which are still held here.

A successor is started on them, or they are closed once nothing waits there that no close would
migrate.  Until that has been done they are in the service's list: what the kernel refuses is tried
again, and no queue is forgotten.
"""

from __future__ import annotations

import functools
import itertools

from segue.linux.sockopt import cookie
from segue.supervisor.front import STANDBY, Front
from segue.supervisor.lifecycle.instance import HeldListener, Worker
from segue.supervisor.lifecycle.seats import seats
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.run.listeners import Listeners
from segue.supervisor.run.service import Service, Unclaimed

_EVER_SERVED = {Stage.SERVING, Stage.DRAINING, Stage.STOPPING, Stage.KILLED}
_SUCCESSORS = (Stage.STARTING, Stage.STANDBY, Stage.SERVING)


def leave(service: Service, listeners: Listeners, worker: Worker, before: Stage) -> None:
    """Note what is to become of the listeners of this worker, which was in this stage."""
    instance = service.instance
    stopping = instance.phase in {Phase.STOPPING, Phase.ENDED}
    by_supervisor = service.settings.bind_by == "supervisor"
    last = before is Stage.SERVING and not listeners.others_share(worker.listeners)
    if not by_supervisor and last and not stopping and listeners.move_themselves:
        # Clients wait there until a successor has opened its own; then it is closed, and they move.
        listeners.make_room(worker.listeners)
        _note(service, worker, successor=False)
    elif not by_supervisor or stopping or not (before in _EVER_SERVED or worker.finisher):
        again = (
            by_supervisor
            and not stopping
            and not worker.stop_requested
            and worker.generation == instance.working
            and len(worker.listeners) == len(service.fronts)
        )
        if again:
            _note(service, worker, successor=True)
        else:
            listeners.let_go(worker)
    elif before is not Stage.SERVING or (
        listeners.move_themselves and listeners.others_share(worker.listeners)
    ):
        # Closed rather than cycled where the kernel migrates: half-open requests stay with a
        # listener over a cycle, and its share would last until the next one.
        _note(service, worker, successor=False)
    else:
        held = worker.listeners
        _note(service, worker, successor=True)
        service.moved += listeners.cycle(worker, (), held)


def _note(service: Service, worker: Worker, *, successor: bool) -> None:
    held, worker.listeners = worker.listeners, ()
    if held:
        requests = service.survey.pending.get(worker.id, {})
        process = service.processes.by_worker.get(worker.id)
        service.unclaimed.append(
            Unclaimed(
                worker.name,
                worker.generation,
                held,
                successor=successor,
                finisher=worker.finisher,
                half_open=any(requests.values()),
                knocks=0 if process is None else process.readiness.left(),
            )
        )


def collect(service: Service, listeners: Listeners) -> None:
    """Give workers what waits in listeners of the service manager, once workers can take it.

    Where nothing migrates, another worker is started on these listeners, as for a dead worker's.
    """
    waiting = [front for front in service.fronts if front.waiting]
    for front in [one for one in waiting if one.steering.migrates]:
        moving = f"moving what waits at {front.bind.address} with the service manager"
        service.loop.attempt(moving, functools.partial(listeners.move_standby, front))
    others = [front for front in waiting if not front.steering.migrates]
    taken = [one.listeners for one in service.unclaimed]
    taken += [one.listeners for one in service.instance.living]
    if others and not any(held.slot == STANDBY for held in itertools.chain(*taken)):
        opening = "opening listeners beside those of the service manager"
        service.loop.attempt(opening, lambda: _note_standby(service, others))


def _note_standby(service: Service, waiting: list[Front]) -> None:
    """A worker gets a listener at each address.  Raises KernelError."""
    settings = service.settings
    held = tuple(
        HeldListener(front.number, STANDBY, cookie(front.sockets[STANDBY]))
        if front in waiting
        else front.open(backlog=settings.backlog, nodelay=settings.nodelay)
        for front in service.fronts
    )
    name, generation = "the service manager", service.instance.working
    service.unclaimed.append(Unclaimed(name, generation, held, successor=False))


def claim(service: Service, generation: int) -> tuple[HeldListener, ...]:
    """Listeners for a successor in this generation; () when none are left."""
    for one in reversed(service.unclaimed):
        if one.successor and one.generation == generation:
            service.unclaimed.remove(one)
            return one.listeners
    return ()


def for_nobody(service: Service, listeners: Listeners) -> list[Unclaimed]:
    """Those on which no successor will be started any more.

    No worker that binds is started on one.  They are kept while nobody else shares the address.
    """
    instance = service.instance
    by_supervisor = service.settings.bind_by == "supervisor"
    enough = len(instance.of(instance.working, *_SUCCESSORS)) >= seats(instance)
    over = instance.phase in {Phase.STOPPING, Phase.ENDED}
    return [
        one
        for one in service.unclaimed
        if over
        or (by_supervisor and (enough or not one.successor or one.generation != instance.working))
        or (not by_supervisor and listeners.others_share(one.listeners))
    ]


def waiting(service: Service, left: Unclaimed) -> int | None:
    """How many clients wait there whom no close would migrate; None for nobody at all.

    0 means that handshakes may be under way there.  Raises KernelError.
    """
    queues = []
    for held in left.listeners:
        front = service.fronts[held.bind]
        if front.steering.migrates:
            continue
        seen = service.observer.snapshot(front.bind.address).by_cookie(held.cookie)
        if seen is not None:
            queues.append(seen.queue)
    clients = max(0, sum(queues) - left.knocks)
    return clients if clients or (queues and left.half_open) else None
