"""A connection on which nothing was heard for long is asked whether its peer is there.

Stands for tcp_keepalive_timer.
"""

from __future__ import annotations

import errno
from math import inf

from segue.model import output, removal
from segue.model.connection import Connection
from segue.model.events import Fired, Timer
from segue.model.net import Net
from segue.model.states import TIME_WAIT
from segue.wire.seq import add, before
from segue.wire.tcp import ACK

DEFAULTS = {"TCP_KEEPIDLE": 7200, "TCP_KEEPINTVL": 75, "TCP_KEEPCNT": 9}


def begin(net: Net, connection: Connection) -> None:
    """SO_KEEPALIVE or TCP_KEEPIDLE has changed: when is it time to ask?"""
    if not connection.options.get("SO_KEEPALIVE"):
        connection.keep_at = inf
    elif connection.state is not TIME_WAIT:
        left = _setting(connection, "TCP_KEEPIDLE") - _silent(net, connection)
        connection.keep_at = net.after(max(0.0, left))


def timer(net: Net, connection: Connection) -> None:
    """Ask, or give up; while something of ours is under way its own timer asks."""
    idle, silent = _setting(connection, "TCP_KEEPIDLE"), _silent(net, connection)
    busy = before(connection.snd_una, connection.end) or connection.flying
    if busy or silent < idle - _ROUNDING:
        connection.keep_at = net.after(idle if busy else idle - silent)
        return
    net.events.append(Fired(connection.cookie, Timer.KEEPALIVE))
    patience = connection.options.get("TCP_USER_TIMEOUT", 0) / 1000
    if patience:
        gone = connection.probes > 0 and silent >= patience
    else:
        gone = connection.probes >= _setting(connection, "TCP_KEEPCNT")
    if gone:
        output.abort(net, connection)
        removal.end(net, connection, errno.ETIMEDOUT)
        return
    connection.probes += 1
    output.segment(net, connection, add(connection.snd_nxt, -1), ACK)
    connection.keep_at = net.after(_setting(connection, "TCP_KEEPINTVL"))


_ROUNDING = 1e-6  # seconds: sums of times are not exact


def _setting(connection: Connection, name: str) -> int:
    return connection.options.get(name, DEFAULTS[name])


def _silent(net: Net, connection: Connection) -> float:
    """Since when nothing has come from the peer, as data or as an ACK (keepalive_time_elapsed)."""
    return net.now - max(connection.heard_at, connection.acked_at)
