"""Attaching to a group that is already served, finding it again, and leaving it as it was found.

The order of the steps makes it safe.  Everything is inspected, and refused if need be, before
anything is changed.  What is loaded is pinned before it is attached, so that a command that was
killed in between finds it again.  The attached program sends every connection where the kernel
would have sent it, until the table is filled.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from segue.address import Address
from segue.engine.attached import Attached
from segue.engine.duplicate import duplicate, find, refuse
from segue.engine.examination import examine
from segue.engine.generations import Generations
from segue.engine.loaded import Loaded, load
from segue.engine.migrate import Migrate, cookies, in_another_table
from segue.engine.pinning import Pins
from segue.errors import KernelError, SegueError, UsageError
from segue.group import Listener
from segue.linux.bpf import detach_reuseport
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer, Part


def attach(
    address: Address,
    observer: Observer,
    pins: Pins,
    rule: Rule,
    generations: Generations,
    now: float,
    *,
    loading: Callable[[], Loaded] = load,
    replace: bool = False,
    allow: Collection[str] = (),
    renewal: Callable[[Listener], str] = lambda _: "segue restart",
) -> Attached:
    """The group at this address under the program that ``loading`` gives, every member as before.

    ``loading`` is called once, when nothing speaks against attaching any more; what it returns is
    the group's.  Options in which its listeners differ without harm are its ``differences``; those
    with harm are refused unless ``allow`` names them.  ``renewal`` says of a listener of a
    ``segue run`` how its workers are restarted.  Raises, with nothing changed: UsageError
    when no process listens there or the group must not be attached to; SegueError when another
    program has a listener in its table, unless it is to be replaced; NotSupported, KernelError and
    VerifierError for what the kernel or the permissions lack.
    """
    pins.require()
    listeners = find(observer, address)
    with ExitStack() as held:
        sockets = {
            one: held.enter_context(taken)
            for one in listeners
            if (taken := duplicate(one)) is not None
        }
        if not sockets:
            raise UsageError(f"the process that listened at {address} has just ended: try again")
        refuse(list(sockets), list(sockets.values()), renewal)
        found = examine(observer, address, allow)
        if found.refused:
            names = ",".join(one.name for one in found.refused)
            raise UsageError(
                f"the listeners at {address} differ in {names}, so a connection that migrates"
                f" would break (segue audit {address} says how); --allow {names} attaches all the"
                " same"
            )
        undo = held.enter_context(ExitStack())
        steering = undo.enter_context(Migrate(loading()))
        if not replace:
            _refuse_steered_by_another(address, steering, sockets.values())
        pins.pin(steering)
        undo.callback(pins.remove)
        undo.callback(_detach, next(iter(sockets.values())))
        attached = Attached(address, observer, steering, rule, generations)
        attached.differences = tuple(one for one in found.findings if one.matters)
        attached.begin(sockets, now)
        undo.pop_all()
    return attached


def _refuse_steered_by_another(
    address: Address, steering: Migrate, sockets: Iterable[socket.socket]
) -> None:
    if any(map(steering.steered_by_another, sockets)):
        raise SegueError(
            f"another program steers the group at {address} already: it has a listener in its"
            " table; --replace puts ours in its place"
        )


def find_again(
    address: Address,
    observer: Observer,
    pins: Pins,
    rule: Rule,
    generations: Generations,
    record: Mapping[str, Any],
    now: float,
) -> Attached:
    """The group that an earlier attach left, by its pins and its ``Attached.to_json``.

    The first look finds the listeners that came or went meanwhile.  Raises UsageError when the pins
    are those of another version of Segue, or not those that were written down, KernelError.
    """
    pinned = pins.open()
    try:
        steering = Migrate.restore(pinned)
    except UsageError as error:
        raise UsageError(
            f"what is pinned at {pins.directory} was made by another version of Segue ({error});"
            f" segue detach {address}, then attach again"
        ) from None
    with ExitStack() as undo:
        undo.enter_context(steering)
        _refuse_exchanged(address, pins, steering.identities(), record.get("objects"))
        attached = Attached(address, observer, steering, rule, generations)
        # A record that cannot be read costs the numbers of generations, and no connection.
        with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
            attached.restore(record, now)
        attached.forget_others()
        undo.pop_all()
    return attached


def _refuse_exchanged(
    address: Address, pins: Pins, there: Mapping[str, int], before: object
) -> None:
    """An earlier version of Segue has not written down which objects they were."""
    if isinstance(before, dict) and before != there:
        raise UsageError(
            f"what is pinned at {pins.directory} is not what was attached to {address}: the"
            f" kernel's ids are {_listed(there)}, and were {_listed(before)}; put the right pins"
            f" there, or remove that directory and segue attach {address} --replace"
        )


def _listed(identities: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(identities.items()))


def detach(address: Address, observer: Observer, pins: Pins) -> bool:
    """Leave the group to the kernel's own hash, as it was found, and remove the pins.

    Whether there was anything of ours.  Raises UsageError when what is pinned steers listeners
    elsewhere, NotSupported when no listener can be reached, KernelError.
    """
    if not pins.there():
        return False
    with pins.table() as table:
        ours = cookies(table)
        here = observer.snapshot(address, Part.OWNERS).listeners
        if ours and not any(one.cookie in ours for one in here):
            raise UsageError(
                f"what is pinned at {pins.directory} steers listeners that are not at {address} in"
                " this network namespace; name the right one with --netns"
            )
        # A listener that is in our table is in no other, so the program is ours.  It is ours too if
        # our table is empty: then the group consists of listeners that came while we did not look.
        for listener in sorted(here, key=lambda one: one.cookie not in ours):
            taken = duplicate(listener)
            if taken is None:
                continue
            with taken:
                if listener.cookie in ours or not in_another_table(table, 0, taken):
                    _detach(taken)
            break
    pins.remove()
    return True


def _detach(listener: socket.socket) -> None:
    try:
        detach_reuseport(listener.fileno())
    except KernelError as error:
        if error.errno != errno.ENOENT:  # gone already
            raise
