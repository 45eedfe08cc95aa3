"""Connections of workers that stall, from when a stall is found until it is over."""

from __future__ import annotations

from collections.abc import Collection

from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.run.service import Service


class Stalled:
    """Begins and ends the carrying from workers of one service that stall."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: set[int] = set()

    def follow(self, stalls: Collection[int]) -> None:
        """Called with the workers that stall, whenever they may have changed."""
        if not stalls and not self._known:
            return
        service, carrying = self._service, self._service.carrying
        for number in set(stalls) - self._known:
            worker = service.instance.workers.get(number)
            process = service.processes.by_worker.get(number)
            if worker is not None and process is not None and worker.stage is Stage.SERVING:
                carrying.begin(worker, process, stalls=True)
        for number in self._known - set(stalls):
            its = carrying.carries.get(number)
            if its is None or not its.stalls:
                continue  # it drains by now, or has ended
            said = carrying.forget(number)
            if said:
                service.say(f"{service.instance.workers[number].name} stalls no more: {said}")
        self._known = set(stalls)
