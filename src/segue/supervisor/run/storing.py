"""Listeners that a service manager keeps for the next start (FDSTORE, sd_notify(3)).

Each is a member of its group without a share, as one that the manager has opened itself
(activation.py).  When the supervisor and all workers are dead, it has what waited at them, and what
comes.  At a proper stop the manager is told to close it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from segue.errors import KernelError, UsageError
from segue.supervisor import notify
from segue.supervisor.front import Front
from segue.supervisor.lifecycle.stages import Phase
from segue.supervisor.run.service import Service
from segue.supervisor.settings import Settings

# No name that systemd gives a socket of a .socket unit, which is that of the unit, has a slash.
_NAME = "segue/"
_OVER = frozenset({Phase.STOPPING, Phase.ENDED})


def is_ours(name: str) -> bool:
    """A descriptor of this name is one that a supervisor had stored."""
    return name.startswith(_NAME)


def room(environ: Mapping[str, str]) -> int:
    """How many descriptors the service manager keeps for us (FileDescriptorStoreMax=)."""
    told = environ.get("FDSTORE", "")  # systemd sets it from version 254 on
    return int(told[:9]) if told.isascii() and told.isdecimal() else 0


def refuse_impossible(settings: Settings) -> None:
    """Raise UsageError if no listener of ours can be in the groups that are served."""
    if settings.bind_by == "worker" or settings.beside:
        why = "--beside" if settings.beside else "--bind-by worker"
        raise UsageError(f"the service manager can keep no listener for the next start with {why}")


def keep(service: Service) -> None:
    """Have the service manager keep a listener at each address, if it keeps any.

    Where it has one already, that is the one.  What cannot be is said, and the instance serves
    without.
    """
    settings = service.settings
    if service.instance.phase in _OVER:
        # A supervisor that was told to stop has died, and its successor goes on with the stop.
        for front in service.fronts:
            forget(front)
        return
    there = room(os.environ)
    if not there or not os.environ.get("NOTIFY_SOCKET"):
        return
    try:
        refuse_impossible(settings)
    except UsageError as error:
        service.say(str(error))
        return
    wanted = [front for front in service.fronts if front.stored or front.standby is None]
    if there < len(wanted):
        service.warn(
            f"the service manager keeps {there} descriptor(s), and {len(wanted)} are needed: if"
            f" the supervisor and all workers die, clients are refused until the next start"
            f" (FileDescriptorStoreMax={len(wanted)} in the unit changes that)"
        )
        return
    for front in wanted:
        doing = f"having the service manager keep a listener at {front.asked}"
        service.loop.attempt(doing, partial(_keep, service, front))


def _keep(service: Service, front: Front) -> None:
    name, settings = _name(front), service.settings
    if not front.stored:
        notify.forget(name)  # what a predecessor has stored that is no member of the group now
        front.keep(backlog=settings.backlog, nodelay=settings.nodelay)
    assert front.standby is not None
    if not notify.store(name, front.standby):
        raise KernelError("sendmsg", 0, "telling the service manager by NOTIFY_SOCKET")


def forget(front: Front) -> None:
    """The service manager keeps none any more, and nobody listens with it; else changes nothing."""
    if front.stored:
        notify.forget(_name(front))
        front.end_stored()


def _name(front: Front) -> str:
    return _NAME + str(front.asked).replace(":", "_")
