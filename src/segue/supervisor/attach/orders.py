"""Orders for an attached group."""

from __future__ import annotations

from collections.abc import Callable

from segue.address import Address
from segue.engine import attach
from segue.engine.pinning import Pins
from segue.errors import UsageError
from segue.observe.snapshot import Observer
from segue.supervisor import notify
from segue.supervisor.attach.account import Account
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.rescues import Rescues
from segue.supervisor.attach.settings import named
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
    ShowStatus,
    Stop,
    Trace,
    Weights,
)
from segue.supervisor.control.server import Client
from segue.supervisor.settings import patience

ORDERS = (ShowStatus, Shift, Rollback, Promote, Weights, Stop, Detach, Trace, Map, Rescue)


class Orders:
    """The verbs of one attached group."""

    def __init__(
        self,
        attachment: Attachment,
        account: Account,
        rescues: Rescues,
        take_off: Callable[[Address, Observer, Pins], bool] = attach.detach,
    ) -> None:
        self.attachment, self.account, self.rescues = attachment, account, rescues
        self._take_off = take_off

    def do(self, client: Client, request: Request) -> None:
        """Carry out one request.  Raises SegueError, with nothing changed, when it cannot."""
        attachment = self.attachment
        if not isinstance(request, ORDERS):
            raise UsageError(
                f"{request.verb} is no order for a group that Segue did not start: its servers are"
                f" restarted their own way (orders here: {', '.join(one.verb for one in ORDERS)})"
            )
        match request:
            case ShowStatus(brief):
                client.end(0, status=report(attachment).to_json(brief=brief))
            case Shift(percent):
                generation = attachment.attached.shift(percent)
                self.account.changed()
                client.end(0, generation=generation, percent=percent)
            case Rollback():
                self._all(client, 0.0)
            case Promote():
                self._all(client, 100.0)
            case Weights(weights):
                attachment.attached.weigh(weights)
                self.account.changed()
                client.end(0)
            case Map():
                groups = {str(attachment.settings.address): attachment.attached.steering}
                map_order.answer(client, request, groups)
            case Trace():
                steering, borrow = attachment.attached.steering, attachment.attached.borrow
                attachment.tracing.begin(client, 0, steering, borrow)
            case Rescue(after):
                self._refuse_other(request.address)
                self.rescues.begin_for(client, patience(after, "--after"))
            case Stop():
                self.stop()
                client.end(0)
            case Detach():
                self._refuse_other(request.address)
                self._detach()
                client.end(0)

    def stop(self) -> None:
        """Leave the loop; the program and its shares stay in force, unless they were for now.

        Raises as ``engine.attach.detach``.
        """
        notify.tell(STOPPING="1")
        attachment, address = self.attachment, self.attachment.settings.address
        if attachment.settings.passing:
            self._detach()
            return
        self.rescues.end()
        again = named(address, attachment.paths.name)
        attachment.loop.say(
            f"no longer followed: the program stays attached with the shares as they are; segue"
            f" attach {again} goes on, segue detach {again} takes it off"
        )
        attachment.over = True

    def _detach(self) -> None:
        """Leave the group as it was found, and the loop."""
        attachment, address = self.attachment, self.attachment.settings.address
        self._take_off(address, attachment.observer, attachment.pins)
        attachment.loop.say(f"{address} is detached: the kernel distributes its connections again")
        attachment.over = True
        attachment.paths.remove()

    def _all(self, client: Client, percent: float) -> None:
        self.attachment.attached.shift(percent)
        self.account.changed()
        client.end(0, generation=working(parts_of(self.attachment.attached)))

    def _refuse_other(self, address: str) -> None:
        here = self.attachment.settings.address
        if address and here not in {asked := Address.parse(address), asked.in_ipv6}:
            raise UsageError(f"{self.attachment.paths.name} is attached to {here}")
