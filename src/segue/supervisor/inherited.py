"""Listeners that other processes than workers have inherited, and that nobody shall listen with.

A helper that a worker has started keeps what it has open.  Clients would wait there, where no
process accepts, and the next start would be refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import replace

from segue.address import Address
from segue.engine.duplicate import duplicate
from segue.errors import SegueError
from segue.group import Listener
from segue.linux import proc
from segue.linux.inet_diag import info_of
from segue.linux.sockopt import cookie, is_listening, stop_listening
from segue.observe.snapshot import Observer, Part


def may_end(listener: socket.socket, *, moves: bool) -> bool:
    """No client notices when nobody listens with it: nothing waits there, or it ``moves``."""
    info = None if moves or not is_listening(listener) else info_of(listener)
    return info is None or not info.unacked


def end_left(listener: Listener, *, moves: bool) -> bool:
    """Shut down a listener that an ended worker left in another process, if it ``may_end``.

    Raises NotSupported when no owner can be looked into, KernelError.
    """
    taken = duplicate(listener)
    if taken is None:
        return True  # gone meanwhile
    with taken:
        may = may_end(taken, moves=moves)
        if may:
            stop_listening(taken)
    return may


def end(
    address: Address, opened: Collection[int], held: Collection[socket.socket], observer: Observer
) -> tuple[list[str], int]:
    """Stop every listener with these cookies, whichever process still has it; some are ``held``.

    Call this only at the end of the instance.  Returns sentences for the log, and how many
    connections still waited.  Raises KernelError if the kernel cannot be asked.
    """
    said, waited = [], 0
    for left in _still_there(address, opened, observer):
        waited += left.queue
        waiting = f"; {left.queue} connection(s) that waited there are lost" * bool(left.queue)
        try:
            taken = _duplicate(left, held)
        except SegueError as error:
            said.append(f"a process still listens at {address}: {error}")
            continue
        if taken is not None:
            with taken:
                stop_listening(taken)
        if left.owners:
            said.append(
                f"{proc.describe(left.owners)} had kept a listener at {address}: it has been shut"
                f" down{waiting}"
            )
    return said, waited


def _still_there(address: Address, opened: Collection[int], observer: Observer) -> list[Listener]:
    left = {one.cookie for one in observer.snapshot(address).listeners}.intersection(opened)
    if not left:
        return []
    # This looks at every process of the machine, but only once in an instance's life.
    owned = observer.snapshot(address, Part.OWNERS).listeners
    us = os.getpid()
    return [
        replace(one, owners=tuple(pid for pid in one.owners if pid != us))
        for one in owned
        if one.cookie in left
    ]


def _duplicate(listener: Listener, held: Collection[socket.socket]) -> socket.socket | None:
    for one in held:
        if cookie(one) == listener.cookie:
            return socket.socket(fileno=os.dup(one.fileno()))
    return duplicate(listener)
