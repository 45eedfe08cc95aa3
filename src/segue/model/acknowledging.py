"""When an acknowledgement goes by itself: at once, with an answer of the program, or later.

Stands for what ``icsk_ack`` has: the quick ACKs, which a connection begins with and has again after
something went wrong; the delayed ACK, which learns from the pauses between segments how long to
wait (ato); and whether the program answers what it reads (pingpong).  Left out: of more than three
ACKs of gaps within a millisecond Linux sends one (tcp_comp_sack_delay_ns).
"""

from __future__ import annotations

from math import inf

from segue.model import output, receive_window
from segue.model.arrival import Arrival
from segue.model.connection import Connection
from segue.model.durations import DELAYED_ACK, DELAYED_ACK_MAX, TICK
from segue.model.net import Net
from segue.model.states import State
from segue.wire.seq import distance

QUICK = 16  # segments that are acknowledged at once, at most (TCP_MAX_QUICKACKS)
_LONGEST = 0.5  # of a delay, where the pauses are long
_OPEN = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})


def data_came(net: Net, connection: Connection, arrival: Arrival) -> None:
    """In its turn (tcp_event_data_recv)."""
    receive_window.note(net, connection, arrival)
    pause, delay = net.now - connection.heard_at, connection.ack_delay
    connection.heard_at = net.now
    if not delay:
        more_quickly(net, connection, QUICK)
        connection.ack_delay = DELAYED_ACK
    elif pause <= DELAYED_ACK / 2:
        connection.ack_delay = (delay + DELAYED_ACK) / 2
    elif pause < delay:
        connection.ack_delay = min(delay / 2 + pause, connection.rto, DELAYED_ACK_MAX)
    elif pause > connection.rto:
        more_quickly(net, connection, QUICK)
    receive_window.grow(net, connection, arrival)
    connection.owed = True


def more_quickly(net: Net, connection: Connection, most: int) -> None:
    """So many segments are acknowledged at once, but no more than half a window
    (tcp_incr_quickack).
    """
    size = receive_window.of(net, connection).typical
    window = distance(connection.sent_ack, connection.offered_edge)
    connection.quick = max(connection.quick, min(window // (2 * size) or 2, most))


def hurry(net: Net, connection: Connection, most: int = QUICK) -> None:
    """Something is wrong: the peer is to know at once what comes (tcp_enter_quickack_mode)."""
    more_quickly(net, connection, most)
    connection.interactive = False
    connection.ack_delay = DELAYED_ACK


def soon(net: Net, connection: Connection) -> None:
    """An ACK is owed for data: now, or a little later (__tcp_ack_snd_check).

    Each second segment is acknowledged at once, if the window's edge moves on as far; if not, a
    read tells it.
    """
    buffer = connection.buffer or receive_window.of(net, connection)
    much = distance(connection.sent_ack, connection.rcv_nxt) > buffer.typical
    if much and connection.incoming:
        # Looked at first, since a small window ends the quick ACKs.
        window = distance(connection.sent_ack, connection.offered_edge)
        much = receive_window.select(connection, buffer) >= window
    hurried = connection.quick and not connection.interactive
    if much or hurried or connection.early or not _delay(net, connection, buffer.pushed):
        output.acknowledge(net, connection)


def _delay(net: Net, connection: Connection, pushed: int) -> bool:
    """Wait for an answer; False if one that waits is due so soon that it may go now
    (tcp_send_delayed_ack).
    """
    delay = connection.ack_delay
    if delay > DELAYED_ACK:
        most = DELAYED_ACK_MAX if pushed or connection.interactive else _LONGEST
        if connection.srtt is not None:
            most = min(most, max(connection.srtt, DELAYED_ACK))
        delay = min(delay, most, DELAYED_ACK_MAX - TICK)
    at, now = connection.ack_at, net.now
    if at != inf and at <= now + delay / 4 // TICK * TICK:
        return False
    if now + delay < at:
        connection.ack_at = net.after(delay)
    return True


def set_to(net: Net, connection: Connection, value: int) -> None:
    """TCP_QUICKACK: with 0, ACKs wait for what the program answers.  With another number one that
    waits goes as soon as all is read; after it, if the number is even, they wait again
    (__tcp_sock_set_quickack).
    """
    connection.interactive = not value
    if not value or connection.state not in _OPEN or connection.ack_at == inf:
        return
    buffer = receive_window.of(net, connection)
    buffer.pushed = max(1, buffer.pushed)
    if receive_window.is_news(connection):
        output.acknowledge(net, connection)
    connection.interactive = not value & 1


def timer(net: Net, connection: Connection) -> None:
    """No answer came (tcp_delack_timer_handler)."""
    if connection.interactive:
        connection.interactive, connection.ack_delay = False, DELAYED_ACK
    else:
        connection.ack_delay = min(2 * connection.ack_delay, connection.rto)
    output.acknowledge(net, connection)
