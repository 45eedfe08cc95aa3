"""Whether accepted connections can be carried here: one is, and its two ends go on talking."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack

from segue.engine.carry import Carrier
from segue.engine.carry_facts import host
from segue.engine.select import Experiment, apart, free_address
from segue.errors import SegueError
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal

_SECONDS = 1.0


def try_carry() -> Experiment:
    """Carry one connection, in a network namespace of its own if that may be made.

    ``migrated`` says that it went; else ``error`` says why not.  The present namespace's settings
    are asked for first, since a new one has its own.
    """
    try:
        if not host().syncookies:
            return Experiment(error=Refusal.SYNCOOKIES_OFF.value)
    except SegueError as error:
        return Experiment(error=str(error))
    return apart(_experiment)


def _experiment() -> Experiment:
    try:
        return _carried()
    except OSError as error:
        return Experiment(error=str(error))


def _carried() -> Experiment:
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        address = free_address()
        where = (address.host, address.port)
        first = stack.enter_context(open_listener(address, backlog=8))
        client = stack.enter_context(socket.create_connection(where, timeout=_SECONDS))
        first.settimeout(_SECONDS)
        old = stack.enter_context(first.accept()[0])
        client.sendall(b"?")
        old.recv(1)
        old.sendall(b"!")
        client.recv(1)
        second = stack.enter_context(open_listener(address, backlog=8))
        first.close()
        report = carrier.carry(old, [second])
        if not report.carried:
            return Experiment(error=str(report))
        if old.recv(1):
            return Experiment(error="its first owner did not read the end of it")
        return _goes_on(client, second)


def _goes_on(client: socket.socket, listener: socket.socket) -> Experiment:
    woken = bool(select.select([listener], [], [], _SECONDS)[0])
    listener.settimeout(_SECONDS)
    with listener.accept()[0] as new:
        new.settimeout(_SECONDS)
        client.sendall(b"?")
        asked = new.recv(1)
        new.sendall(b"!")
        if (asked, client.recv(1)) != (b"?", b"!"):
            return Experiment(error="a connection that was carried does not go on")
    return Experiment(migrated=True, woken=woken)
