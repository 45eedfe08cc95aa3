"""What a supervisor writes down, so that the next one of its name can take its workers over."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from segue.errors import SegueError, UsageError
from segue.supervisor.front import SLOTS
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.settings import Settings

# What reading values of another version, or of somebody who damaged the file, may raise.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Record:
    """An instance at one moment.

    By address, ``orders`` has the kernel's order of members, and ``left`` what ``Front.left`` has.
    """

    settings: Settings
    instance: Instance
    engine: str
    orders: tuple[tuple[int, ...], ...]
    cgroup: str = ""  # of workers, with --inject
    left: tuple[dict[int, str], ...] = ()  # () in a record of an earlier version

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "settings": self.settings.to_json(),
            "instance": self.instance.to_json(),
            "engine": self.engine,
            "orders": [list(order) for order in self.orders],
            "pid": os.getpid(),
            "cgroup": self.cgroup,
            "left": [{str(cookie): name for cookie, name in one.items()} for one in self.left],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any], where: str) -> Record:
        """The record that was read at ``where``.

        Raises SegueError when it cannot be understood, or does not fit together.
        """
        try:
            made = cls(
                Settings.from_json(plain["settings"]),
                Instance.from_json(plain["instance"]),
                str(plain.get("engine", "auto")),
                tuple(tuple(order) for order in plain["orders"]),
                str(plain.get("cgroup", "")),
                tuple(
                    {int(cookie): str(name) for cookie, name in one.items()}
                    for one in plain.get("left", ())
                ),
            )
            made._check()
        except (*UNREADABLE, UsageError) as error:
            raise SegueError(
                f"{where} names workers that run still, and cannot be read"
                f" ({type(error).__name__}: {error!s:.100}): end these workers, remove the file,"
                " and start anew"
            ) from None
        return made

    def _check(self) -> None:
        binds = len(self.settings.binds)
        if not all(isinstance(cookie, int) for order in self.orders for cookie in order):
            raise TypeError("the orders are no lists of cookies")
        if len(self.orders) != binds:
            raise ValueError("the orders are not those of the addresses")
        if len(self.left) not in {0, binds}:
            raise ValueError("what workers left is not at the addresses")
        for renewal in (self.instance.renewal, self.instance.queued):
            if renewal is not None:
                renewal.check()
        held = [one for worker in self.instance.living for one in worker.listeners]
        if not all(0 <= one.bind < binds and 0 <= one.slot < SLOTS for one in held):
            raise ValueError("a listener is held at no address of it")
