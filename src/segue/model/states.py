"""The states of a connection, and the only ways from one to another (RFC 9293, 3.3.2).

A half-open request has no way out of NEW_SYN_RECV: it is dropped, or a child takes its place.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from segue.errors import IllegalInput


class State(IntEnum):
    """The kernel's numbers (include/net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_RECV = 3  # of a Fast Open child only: everybody else's is NEW_SYN_RECV
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


class Congestion(IntEnum):
    """What the sender believes of the way (enum tcp_ca_state)."""

    OPEN = 0
    DISORDER = 1  # something arrived out of its order
    CWR = 2  # the way has said that it is congested
    RECOVERY = 3  # something is lost, and sent again
    LOSS = 4  # after a timeout


# What is asked of each packet has a name by itself: one of an enumeration is looked up in its class
# each time, which takes several times as long.
ESTABLISHED: Final = State.ESTABLISHED
SYN_RECV: Final = State.SYN_RECV
FIN_WAIT1: Final = State.FIN_WAIT1
FIN_WAIT2: Final = State.FIN_WAIT2
TIME_WAIT: Final = State.TIME_WAIT
CLOSE: Final = State.CLOSE
LISTEN: Final = State.LISTEN
OPEN: Final = Congestion.OPEN


class Input(IntEnum):
    """What moves a connection on: numbers, since they are looked up in a table, and of any other
    enumeration the hash is made in Python.
    """

    HANDSHAKE_ENDED = auto()  # the peer acknowledged the SYN-ACK of a Fast Open child
    FIN_SENT = auto()  # the program wants to send nothing more
    FIN_ARRIVED = auto()  # the peer sends nothing more
    FIN_ACKED = auto()  # the peer has all that we ever sent
    RESET = auto()  # by either side, or given up
    EXPIRED = auto()  # the time in which old segments may still arrive is over


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.SYN_RECV, Input.HANDSHAKE_ENDED): State.ESTABLISHED,
    (State.SYN_RECV, Input.FIN_SENT): State.FIN_WAIT1,
    (State.SYN_RECV, Input.RESET): State.CLOSE,
    (State.ESTABLISHED, Input.FIN_SENT): State.FIN_WAIT1,
    (State.ESTABLISHED, Input.FIN_ARRIVED): State.CLOSE_WAIT,
    (State.ESTABLISHED, Input.RESET): State.CLOSE,
    (State.FIN_WAIT1, Input.FIN_ACKED): State.FIN_WAIT2,
    (State.FIN_WAIT1, Input.FIN_ARRIVED): State.CLOSING,
    (State.FIN_WAIT1, Input.RESET): State.CLOSE,
    (State.FIN_WAIT2, Input.FIN_ARRIVED): State.TIME_WAIT,
    (State.FIN_WAIT2, Input.RESET): State.CLOSE,
    (State.FIN_WAIT2, Input.EXPIRED): State.CLOSE,
    (State.CLOSING, Input.FIN_ACKED): State.TIME_WAIT,
    (State.CLOSING, Input.RESET): State.CLOSE,
    (State.TIME_WAIT, Input.EXPIRED): State.CLOSE,
    (State.TIME_WAIT, Input.RESET): State.CLOSE,
    (State.CLOSE_WAIT, Input.FIN_SENT): State.LAST_ACK,
    (State.CLOSE_WAIT, Input.RESET): State.CLOSE,
    (State.LAST_ACK, Input.FIN_ACKED): State.CLOSE,
    (State.LAST_ACK, Input.RESET): State.CLOSE,
}

# The program may still send; the peer may still send.
CAN_SEND = frozenset({State.SYN_RECV, State.ESTABLISHED, State.CLOSE_WAIT})
CAN_RECEIVE = frozenset({State.SYN_RECV, State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2})
# A peer must be told that the connection is gone (tcp_need_reset).
NEED_RESET = frozenset(
    {State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT1, State.FIN_WAIT2, State.SYN_RECV}
)


def after(state: State, given: Input) -> State:
    """The next state.  Raises IllegalInput when the table has no row."""
    try:
        return TRANSITIONS[state, given]
    except KeyError:
        legal = [one.name for there, one in TRANSITIONS if there is state]
        raise IllegalInput("connection", state.name, given.name, legal) from None
