"""What stands where at an instant, as values: for whoever draws the model or asks it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from segue.model.connection import Connection
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.request import Request
from segue.model.states import State


class Section(Enum):
    """Where a listener stands in its group."""

    LIVE = auto()
    CLOSED = auto()  # it has stopped, and is kept for the sake of what refers to it
    NONE = auto()  # it is in no group


@dataclass(frozen=True, slots=True)
class ListenerPicture:
    """``queue`` and ``half_open`` are cookies, oldest first; ``counted`` is how many half-open
    requests the listener believes that it has (profile.Difference.MOVES_WITH_ITS_CHILD).
    """

    cookie: int
    state: State
    section: Section
    backlog: int
    queue: tuple[int, ...]
    half_open: tuple[int, ...]
    counted: int
    slots_used: int
    slots: int  # TCP_FASTOPEN
    penalties: int


@dataclass(frozen=True, slots=True)
class FlowPicture:
    """A half-open request or a connection; ``unread`` and ``unacknowledged`` are in bytes."""

    cookie: int
    remote_port: int
    state: State
    listener: int | None  # that it refers to, or in whose queue it waits
    unread: int = 0
    unacknowledged: int = 0


def of_listener(net: Net, listener: Listener) -> ListenerPicture:
    """As it stands."""
    group, section = listener.group, Section.NONE
    if group is not None and listener in group.live:
        section = Section.LIVE
    elif group is not None and listener in group.closed:
        section = Section.CLOSED
    return ListenerPicture(
        cookie=listener.cookie,
        state=listener.state,
        section=section,
        backlog=listener.backlog,
        queue=tuple(child.cookie for child in listener.queue),
        half_open=tuple(
            one.cookie
            for one in net.flows.values()
            if isinstance(one, Request) and one.listener is listener
        ),
        counted=listener.requests,
        slots_used=listener.fast_open.used,
        slots=listener.fast_open.limit,
        penalties=len(listener.fast_open.penalties),
    )


def of_flows(net: Net) -> tuple[FlowPicture, ...]:
    """All that wait for an ACK, and all connections that are not over."""
    return tuple(_of_flow(one) for one in net.flows.values())


def _of_flow(one: Request | Connection) -> FlowPicture:
    port = one.path.remote[1]
    if isinstance(one, Request):
        return FlowPicture(one.cookie, port, State.NEW_SYN_RECV, one.listener.cookie)
    return FlowPicture(
        cookie=one.cookie,
        remote_port=port,
        state=one.state,
        listener=None if one.listener is None else one.listener.cookie,
        unread=len(one.incoming),
        unacknowledged=len(one.outgoing),
    )
