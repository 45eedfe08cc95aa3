"""Recycling: gathers what each worker has used, and has the decision of ``lifecycle/recycling.py``
said and written down.
"""

from __future__ import annotations

from segue.supervisor.lifecycle import recycling
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.run.service import Service
from segue.supervisor.workers.usage import Usage

# The record is written anew when a worker was given this part of its connections since: a next
# supervisor counts from there.
_UNWRITTEN = 0.1


class Recycler:
    """The looks at the workers of one service, about once a second."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._usage = Usage(service.world.now)
        self._selected: dict[int, int] = {}  # of each worker's slots, at the last look
        self._written: dict[int, int] = {}  # ``given`` of each worker, as the record has it
        limits = service.limits
        self._wanted = bool(limits.max_lifetime or limits.max_rss or limits.max_connections)
        if not self._wanted:
            recycling.forget(service.instance)  # of settings that were others

    def look(self) -> None:
        """Look at every worker once, and begin or end a recycling.  Raises KernelError."""
        if not self._wanted:
            return
        service, limits, now = self.service, self.service.limits, self.service.world.now()
        instance = service.instance
        if limits.max_connections:
            self._count()
        if limits.max_rss:
            own = {
                one.id: recycling.limits_of(one, limits).max_rss
                for one in instance.living
                if one.stage is Stage.SERVING
            }
            for number, used in self._usage.look(service.processes, own).items():
                instance.workers[number].memory = used
        before = instance.recycling
        for said in recycling.look(instance, limits, now):
            service.say(said)
        begun = instance.recycling if instance.recycling and not instance.recycling.waits else None
        if begun and begun != before:
            name = instance.workers[begun.worker].name
            service.chronicle.note("recycling", f"{name} is recycled", why=begun.why)
        if (begun and begun != before) or self._unwritten():
            self._written = {one.id: one.given for one in instance.living}
            service.write_down()

    def _count(self) -> None:
        """A slot may have counts of a worker before this one, and of a supervisor before us."""
        before, self._selected = self._selected, {}
        for worker in self.service.instance.living:
            fronts = self.service.fronts
            selected = sum(fronts[held.bind].selected(held.slot) for held in worker.listeners)
            self._selected[worker.id] = selected
            worker.given += max(0, selected - before.get(worker.id, selected))

    def _unwritten(self) -> bool:
        step = max(1.0, _UNWRITTEN * self.service.limits.max_connections)
        return any(
            one.given - self._written.get(one.id, 0) >= step for one in self.service.instance.living
        )
