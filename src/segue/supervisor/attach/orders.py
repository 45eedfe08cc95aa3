"""Orders for an attached group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import UsageError
from segue.supervisor.attach.status import parts_of, report, working
from segue.supervisor.control import map_order
from segue.supervisor.control.requests import (
    Detach,
    Map,
    Promote,
    Request,
    Rescue,
    Rollback,
    Shift,
    Status,
    Stop,
    Trace,
    Weights,
)
from segue.supervisor.control.server import Client
from segue.supervisor.settings import patience

if TYPE_CHECKING:
    from segue.supervisor.attach.follower import Follower

ORDERS = (Status, Shift, Rollback, Promote, Weights, Stop, Detach, Trace, Map, Rescue)


class Orders:
    """The verbs of one attended group."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower

    def do(self, client: Client, request: Request) -> None:
        """Carry out one request.  Raises SegueError, with nothing changed, when it cannot."""
        follower = self.follower
        if not isinstance(request, ORDERS):
            raise UsageError(
                f"{request.verb} is no order for a group that Segue did not start: its servers are"
                f" restarted their own way (orders here: {', '.join(one.verb for one in ORDERS)})"
            )
        match request:
            case Status():
                client.end(0, status=report(follower).to_json())
            case Shift(percent):
                generation = follower.attached.shift(percent)
                follower.changed()
                client.end(0, generation=generation, percent=percent)
            case Rollback():
                self._all(client, 0.0)
            case Promote():
                self._all(client, 100.0)
            case Weights(weights):
                follower.attached.weigh(weights)
                follower.changed()
                client.end(0)
            case Map():
                groups = {str(follower.settings.address): follower.attached.steering}
                map_order.answer(client, request, groups)
            case Trace():
                follower.tracing.begin(client, 0, follower.attached.steering, follower.borrow)
            case Rescue(after):
                self._refuse_other(request.address)
                follower.rescue_for(client, patience(after, "--after"))
            case Stop():
                follower.end()
                client.end(0)
            case Detach():
                self._refuse_other(request.address)
                follower.detach()
                client.end(0)

    def _all(self, client: Client, percent: float) -> None:
        self.follower.attached.shift(percent)
        self.follower.changed()
        client.end(0, generation=working(parts_of(self.follower.attached)))

    def _refuse_other(self, address: str) -> None:
        here = str(self.follower.settings.address)
        if address not in {"", here}:
            raise UsageError(f"{self.follower.paths.name} is attached to {here}")
