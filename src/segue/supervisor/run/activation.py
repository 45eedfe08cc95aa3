"""Listeners that a service manager hands over (sd_listen_fds(3)).

It has opened them, or keeps them for us (storing.py).

The manager keeps its descriptor: while nothing runs here, clients wait in its listener instead of
being refused.  So no worker gets it.  It is a member of the group without a share, beside those
that workers have; its share is for the times when no worker takes new connections.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from segue.errors import KernelError, UsageError
from segue.linux.sockopt import cookie, is_listening, local_address, stop_listening, takes_no_ipv4
from segue.linux.sysctl import somaxconn
from segue.observe.snapshot import Observer
from segue.supervisor import notify
from segue.supervisor.run import storing
from segue.supervisor.run.service import Service
from segue.supervisor.settings import FIRST_FD, Bind, Settings

_MOST = 1024  # descriptors
_TCP = {(one, socket.SOCK_STREAM) for one in (socket.AF_INET, socket.AF_INET6)}


@dataclass(frozen=True, slots=True)
class Activation:
    """What was handed over: listeners by the number of their bind, and what is to be said."""

    listeners: dict[int, socket.socket]
    said: tuple[str, ...] = ()
    stored: frozenset[int] = frozenset()  # numbers of binds whose listener is only kept for us
    useless: tuple[str, ...] = ()  # names under which others are kept, that are at no bind

    @property
    def cookies(self) -> frozenset[int]:
        """Those of the listeners."""
        return frozenset(map(cookie, self.listeners.values()))


def names(environ: Mapping[str, str], pid: int) -> dict[int, str]:
    """Descriptors that were handed to this process -> their names; {} where none were.

    Raises UsageError for a number that makes no sense.
    """
    if environ.get("LISTEN_PID") != str(pid) or "LISTEN_FDS" not in environ:
        return {}
    count = environ["LISTEN_FDS"]
    if not (count.isascii() and count.isdecimal() and 0 < int(count[:9]) <= _MOST):
        raise UsageError(
            f"LISTEN_FDS must be between 1 and {_MOST} (got {count[:40]!r}): unset it, or start"
            " segue by a service manager"
        )
    told = environ.get("LISTEN_FDNAMES", "").split(":")
    return {
        FIRST_FD + at: told[at] if at < len(told) and told[at] else "unknown"
        for at in range(int(count))
    }


def take(settings: Settings, environ: Mapping[str, str], pid: int) -> Activation:
    """The listeners that a service manager has handed to this process, for the binds.

    Their descriptors stay open, and are closed on exec.  Raises UsageError for a connection
    (Accept=yes), and for a listener that is at no bind: its clients would wait for ever.  Raises
    KernelError for a socket that cannot listen.
    """
    listeners, said = dict[int, socket.socket](), list[str]()
    stored, useless = set[int](), list[str]()
    given = names(environ, pid)
    for number, name in given.items():
        what = f"descriptor {number} ({name[:80]!r}) of the service manager"
        try:
            os.set_inheritable(number, False)
            kind = os.fstat(number).st_mode
        except OSError:
            raise UsageError(f"LISTEN_FDS is {len(given)}, and {what} is not open") from None
        one = socket.socket(fileno=number) if stat.S_ISSOCK(kind) else None
        if one is None or (one.family, one.type) not in _TCP:
            if one is not None:
                one.detach()
            said.append(f"{what} is not a TCP socket: it is left alone")
            continue
        if not is_listening(one):
            _listen_again(one, what)
            said.append(f"{what} had been shut down, and listens again")
        if not storing.is_ours(name):
            listeners[_bind_of(settings, one, what, listeners)] = one
            continue
        try:
            storing.refuse_impossible(settings)
            at = _bind_of(settings, one, what, listeners)
        except UsageError as error:
            # The settings were others when it was stored.
            said.append(f"what the service manager kept is closed: {error}")
            useless.append(name)
            with one:
                stop_listening(one)
        else:
            listeners[at] = one
            stored.add(at)
            said.append(f"{settings.binds[at].address} was kept by the service manager")
    if listeners.keys() - stored:
        _refuse(settings)
        for at, bind in enumerate(settings.binds):
            if at in stored:
                continue
            if at in listeners:
                said.append(f"{bind.address} is handed over by the service manager")
            else:
                said.append(f"{bind.address} is not handed over by the service manager: bound here")
    return Activation(listeners, tuple(said), frozenset(stored), tuple(useless))


def _listen_again(one: socket.socket, what: str) -> None:
    """A supervisor may have died in the middle of a cycle of the manager's listener.

    Raises UsageError for a connection, KernelError.
    """
    with contextlib.suppress(OSError):
        one.getpeername()
        raise UsageError(
            f"{what} is a connection and not a listener: give the .socket unit Accept=no"
        )
    try:
        one.listen(somaxconn())
    except OSError as error:
        raise KernelError("listen", error.errno or 0, f"listening with {what}") from error


def _bind_of(
    settings: Settings, one: socket.socket, what: str, known: Mapping[int, socket.socket]
) -> int:
    """The number of the bind that this listener serves.  Raises UsageError."""
    where = local_address(one)
    for at, bind in enumerate(settings.binds):
        if bind.address == where or (bind.address.in_ipv6 == where and not takes_no_ipv4(one)):
            if at in known:
                raise UsageError(f"{what} is a second listener at {bind.address}: remove one")
            return at
    raise UsageError(
        f"{what} listens at {where}, which is not a --bind: add --bind {where}, or remove it from"
        " the .socket unit"
    )


def _refuse(settings: Settings) -> None:
    if settings.bind_by == "worker":
        raise UsageError(
            "the service manager has opened the listeners already, so --bind-by worker makes no"
            " sense: remove it, or the .socket unit"
        )
    if settings.beside:
        raise UsageError("--beside does not go with listeners that a service manager hands over")


def refuse_elsewhere(observer: Observer, activation: Activation, binds: tuple[Bind, ...]) -> None:
    """Raise UsageError for a listener in another network namespace than ours."""
    for at, one in activation.listeners.items():
        if observer.snapshot(local_address(one)).by_cookie(cookie(one)) is None:
            raise UsageError(
                f"the listener of the service manager at {binds[at].address} is in another network"
                " namespace than segue: remove PrivateNetwork= from the unit"
            )


def adopt(service: Service, activation: Activation) -> None:
    """Make them members of their groups.  Raises KernelError."""
    for text in activation.said:
        service.say(text)
    for name in activation.useless:
        notify.forget(name)
    for at, one in activation.listeners.items():
        service.fronts[at].stand_by(one)
        service.fronts[at].stored = at in activation.stored
