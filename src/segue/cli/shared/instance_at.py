"""The status of the instance that serves an address, for commands that show it as well."""

from __future__ import annotations

from collections.abc import Callable

from segue.address import Address
from segue.errors import SegueError
from segue.linux import proc
from segue.observe.snapshot import Observer
from segue.probe.target import Target
from segue.supervisor.control import client
from segue.supervisor.control.instances import Running, instances
from segue.supervisor.control.status import Status


def status_at(target: Target) -> Callable[[], Status | None]:
    """A function that returns the status of the instance that serves the target.

    It returns None if there is no such instance or it does not answer.
    """
    known: list[Running] = []

    def look() -> Status | None:
        try:
            running = known or instances()
        except (OSError, SegueError):
            return None
        for one in running:
            found = status_of(one)
            if found is not None and serves(found, target):
                known[:] = [one]
                return found
        return None

    return look


def serves(status: Status, target: Target) -> bool:
    """True if the instance listens at the target, in this network namespace."""
    if not proc.shares_namespace(status.pid, "net"):
        return False
    addresses = [Address.parse(front.address) for front in status.fronts]
    if target.address in addresses:
        return True
    with Observer() as observer:
        return target.local and observer.reached(target.address) in addresses


def status_of(one: Running) -> Status | None:
    """Its status; None if it does not answer."""
    try:
        return client.status(one)
    except (SegueError, OSError, ValueError):
        return None
