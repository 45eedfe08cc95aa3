"""The program's side: what socket, bind, listen, accept, shutdown, close do to a listener.

Refusals are KernelErrors with the errno that Linux gives.
"""

from __future__ import annotations

import errno

from segue.errors import KernelError
from segue.model import migration, removal
from segue.model.connection import Connection
from segue.model.events import Misstep
from segue.model.group import Group
from segue.model.listener import Endpoint, Listener
from segue.model.net import Net
from segue.model.profile import Difference, PostedError
from segue.model.program import Program
from segue.model.states import LISTEN


def refuse(call: str, code: int, doing: str) -> KernelError:
    """The error for a call; the caller raises it."""
    return KernelError(call, code, doing)


def bind(net: Net, listener: Listener, endpoint: Endpoint) -> None:
    """Take an address.  Raises KernelError: EINVAL when it has one, EADDRINUSE."""
    if listener.endpoint is not None:
        raise refuse("bind", errno.EINVAL, "binding a listener")
    group = net.groups.get(endpoint)
    if group is not None and not _may_share(group, listener):
        raise refuse("bind", errno.EADDRINUSE, "binding a listener")
    listener.endpoint = endpoint


def _may_share(group: Group, listener: Listener) -> bool:
    return group.shared and bool(listener.options.get("SO_REUSEPORT")) and group.uid == listener.uid


def listen(net: Net, listener: Listener, backlog: int) -> None:
    """Begin to listen, or, if it does, change the backlog.

    One that listened before comes back into its group, if there is still a live member; else it
    begins a new group, without the program of the old (reuseport_resurrect; FACTS, relisten).
    In the profile SERIES it has its own group again, or none (Difference.LISTENS_AGAIN_ANYWHERE).
    Raises KernelError: EADDRINUSE, EINVAL without an address.
    """
    if listener.endpoint is None or listener.closed:
        raise refuse("listen", errno.EINVAL, "listening")
    listener.backlog = min(backlog & 0xFFFFFFFF, net.sysctls.somaxconn)
    if listener.listening:
        return
    group, old = net.groups.get(listener.endpoint), listener.group
    attached_before = old is not None and listener not in old.closed
    anywhere = Difference.LISTENS_AGAIN_ANYWHERE in net.profile
    elsewhere = old is not None and old is not group and not anywhere
    if group is None:
        if old is not None and (attached_before or not anywhere):
            group = old
            if not attached_before:
                net.events.append(Misstep(PostedError.ALONE_AGAIN_STAYS_CLOSED))
        else:
            shared = bool(listener.options.get("SO_REUSEPORT"))
            group = _begin(net, listener.endpoint, listener.uid, shared=shared)
    elif attached_before or elsewhere or not _may_share(group, listener):
        raise refuse("listen", errno.EADDRINUSE, "listening")
    if old is not None and old is not group:
        old.forget(listener)
    group.join(listener)
    net.groups[listener.endpoint] = group
    listener.state = LISTEN
    listener.options = {**listener.options, "TCP_QUICKACK": 1}  # inet_csk_delack_init
    listener.fast_open.used = 0
    listener.fast_open.penalties.clear()


def _begin(net: Net, endpoint: Endpoint, uid: int, *, shared: bool) -> Group:
    return Group(endpoint, uid, shared, switch=bool(net.sysctls.tcp_migrate_req))


def attach(net: Net, listener: Listener, program: Program | None) -> None:
    """Attach a program to the whole group, in place of the one it has; None detaches.

    Raises KernelError: EINVAL on a listener without SO_REUSEPORT or that was shut down.
    """
    group = listener.group
    if listener.endpoint is None or not listener.options.get("SO_REUSEPORT"):
        raise refuse("setsockopt", errno.EINVAL, "attaching a program")
    if group is None:
        group = _begin(net, listener.endpoint, listener.uid, shared=True)
        listener.group = group
    elif listener in group.closed:
        raise refuse("setsockopt", errno.EINVAL, "attaching a program")
    group.program = program


def accept(listener: Listener) -> Connection:
    """The oldest child.  Raises KernelError: EAGAIN: there is none; EINVAL: not listening."""
    if not listener.listening:
        raise refuse("accept", errno.EINVAL, "accepting")
    if not listener.queue:
        raise refuse("accept", errno.EAGAIN, "accepting")
    child = listener.queue.popleft()
    child.listener = None
    request = child.request
    if child.held is not None:
        removal.release(child.held)
        child.held = None
    if request is not None:
        request.child = None  # from now on a reset of it is held against its sender
        if request.listener is not listener:  # it came with a whole queue: see whole_queue.py
            removal.release(request.listener)
            request.listener = listener
            listener.references += 1
    return child


def shutdown(net: Net, listener: Listener) -> None:
    """Stop listening; the address and the options stay.  Raises KernelError: ENOTCONN."""
    if not listener.listening:
        raise refuse("shutdown", errno.ENOTCONN, "shutting a listener down")
    migration.stop(net, listener)


def close(net: Net, listener: Listener) -> None:
    """Stop listening for good; twice is no error."""
    if listener.listening:
        migration.stop(net, listener)
    listener.closed = True
    if not listener.references and listener.group is not None:
        listener.group.forget(listener)
