"""What poll(2) says of a socket at this instant (tcp_poll), and what lies in it (tcp_ioctl)."""

from __future__ import annotations

from enum import Flag, auto

from segue.model import buffers
from segue.model.connection import Connection
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.states import CAN_SEND, SYN_RECV


class Ready(Flag):
    """The names are poll's."""

    IN = auto()
    OUT = auto()
    ERR = auto()
    HUP = auto()
    RDHUP = auto()


def of(net: Net, sock: Listener | Connection) -> Ready:
    """Whether a call would not wait, and what has happened to the connection."""
    if isinstance(sock, Listener):
        if sock.listening:
            return Ready.IN if sock.queue else Ready(0)
        return Ready.OUT | Ready.HUP
    ready = Ready(0)
    gone = sock.over
    reading_over = sock.receive_shut or sock.peer_ended or gone
    writing_over = sock.fin_wanted or sock.state not in CAN_SEND
    if gone or (reading_over and writing_over):
        ready |= Ready.HUP
    if reading_over:
        ready |= Ready.IN | Ready.RDHUP
    if sock.incoming:
        ready |= Ready.IN
    if writing_over or buffers.has_room(net, sock):
        ready |= Ready.OUT
    else:
        sock.stalled = True
    if sock.error:
        ready |= Ready.ERR
    return ready


def unread(connection: Connection) -> int:
    """Bytes that a read would give (SIOCINQ)."""
    if connection.state is SYN_RECV:
        return 0
    return len(connection.incoming)


def more(connection: Connection) -> int:
    """What TCP_INQ tells with a read: the bytes that are left, or 1 for an end that is not read."""
    left = len(connection.incoming)
    return left or int(connection.peer_ended)
