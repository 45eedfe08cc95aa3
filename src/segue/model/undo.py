"""A window that was made smaller for nothing is made large again (tcp_try_undo_*).

That nothing was lost is known when the peer echoes a stamp from before the first repetition (Eifel,
RFC 3522), tells of each repetition that it came twice (D-SACK, RFC 3708), or, after a timeout,
tells of what was never sent again (F-RTO, RFC 5682).
"""

from __future__ import annotations

from segue.model.connection import Connection
from segue.model.net import Net
from segue.model.states import OPEN, Congestion
from segue.wire.seq import Seq, before, distance

ROUNDS = 16  # recoveries for which RACK waits longer after a D-SACK (TCP_RACK_RECOVERY_THRESH)


def begin(connection: Connection) -> None:
    """Now the window is made smaller; repetitions that are on their way count (tcp_init_undo)."""
    connection.undo_from = connection.snd_una
    out = sum(one.again for one in connection.flying)
    probe = connection.probe_end is not None and connection.probe_repeats
    connection.undo_left = out + probe or -1


def note_repetition(net: Net, connection: Connection) -> None:
    """Something is sent again (tcp_retransmit_skb)."""
    if connection.first_repeat is None:
        connection.first_repeat = net.stamp(connection.ts_offset)
    connection.undo_left = max(connection.undo_left, 0) + 1


def note_twice(connection: Connection, count: int, end: Seq) -> None:
    """So many of what was sent again, up to this number, came twice."""
    start = connection.undo_from
    if start is not None and connection.undo_left > 0 and before(start, end):
        connection.undo_left = max(0, connection.undo_left - count)


def came_twice(
    connection: Connection, blocks: tuple[tuple[int, int], ...], ack: Seq, una: Seq
) -> int:
    """How many segments the first range says came twice; 0 if it says nothing of the kind, or more
    than was ever sent again (tcp_check_dsack).
    """
    low, high = Seq(blocks[0][0]), Seq(blocks[0][1])
    if not before(low, ack):
        if len(blocks) < 2:
            return 0
        if before(Seq(blocks[1][1]), high) or before(low, Seq(blocks[1][0])):
            return 0
    size = distance(low, high)
    if not 0 < size <= connection.snd_max_wnd:
        return 0
    count = max(1, -(-size // connection.segment_size))
    connection.twice += count
    if connection.twice > connection.repetitions:
        return 0
    if not before(una, high):
        note_twice(connection, count, high)
    return count


def echoes_before(connection: Connection, stamp: int) -> bool:
    """The segment that came last answers one from before this stamp (tcp_tsopt_ecr_before)."""
    return bool(connection.echo) and before(Seq(connection.echo), Seq(stamp))


def _delayed(connection: Connection) -> bool:
    """What was acknowledged was late, and not lost (tcp_packet_delayed)."""
    if connection.first_repeat is not None:
        return echoes_before(connection, connection.first_repeat)
    return connection.terms.sack or before(connection.snd_una, connection.high_seq)


def _may(connection: Connection) -> bool:
    wanted = connection.undo_from is not None
    return wanted and (not connection.undo_left or _delayed(connection))


def _undo(connection: Connection, *, nothing_lost: bool) -> None:
    if nothing_lost:
        for one in connection.flying:
            one.lost = False
    if connection.prior_ssthresh:
        connection.cwnd = max(connection.cwnd, connection.prior_cwnd)
        if connection.prior_ssthresh > connection.ssthresh:
            connection.ssthresh = connection.prior_ssthresh
            connection.sends_less = False
    connection.undo_from = None
    connection.rack_news = True


def some_repeated(connection: Connection) -> bool:
    """Of what is in flight (tcp_any_retrans_done)."""
    flying = connection.flying
    return any(one.again for one in flying) or bool(flying and flying[0].repeated)


def _stays(connection: Connection) -> bool:
    """Without SACK it is over when more than all of that time is acknowledged (RFC 6582, 6)."""
    if connection.terms.sack or connection.snd_una != connection.high_seq:
        return False
    if not some_repeated(connection):
        connection.first_repeat = None
    return True


def at_end(connection: Connection) -> bool:
    """All that was sent then is acknowledged; True if it is not over yet."""
    if _may(connection):
        _undo(connection, nothing_lost=False)
    elif connection.settle_rounds:
        connection.settle_rounds -= 1
    if _stays(connection):
        return True
    connection.congestion = OPEN
    return False


def by_repetitions(connection: Connection) -> bool:
    """Each came twice."""
    if connection.undo_from is None or connection.undo_left:
        return False
    connection.settle_rounds = min(ROUNDS, connection.settle_rounds + 1)
    _undo(connection, nothing_lost=False)
    return True


def of_timeout(connection: Connection, *, sure: bool = False) -> bool:
    """It was too early; ``sure`` is by F-RTO."""
    if not sure and not _may(connection):
        return False
    _undo(connection, nothing_lost=True)
    connection.timeouts = 0
    if not _stays(connection) and (sure or connection.terms.sack):
        connection.congestion = OPEN
    return True


def part_was_late(connection: Connection) -> bool:
    """A late segment has filled the gap, and nothing that was sent again."""
    return connection.undo_from is not None and _delayed(connection)


def of_part(connection: Connection) -> None:
    """What was late is no loss, and so nothing is."""
    if not some_repeated(connection):
        connection.first_repeat = None
    _undo(connection, nothing_lost=True)
    keep_open(connection)


def keep_open(connection: Connection) -> None:
    """Open, or, where something is out of its order, nearly (tcp_try_keep_open)."""
    out = connection.presumed or any(one.sacked or one.lost for one in connection.flying)
    state = Congestion.DISORDER if out or some_repeated(connection) else OPEN
    if connection.congestion is not state:
        connection.congestion = state
        connection.high_seq = connection.snd_nxt
