"""Requests behind one another on a connection that ends: which are lost, and which go again.

RFC 9112 leaves a client three cases.  A server that says "Connection: close" has promised to
process nothing behind that request (section 9.6), so what is behind goes again on another
connection, and nothing is lost.  When the server ends the connection, a request of which no byte
was written goes again too: the server has no byte of it.  All others were written and will not be
answered:
the client may repeat an idempotent one (section 9.3.2), but it cannot know whether it was
processed.  They are lost, each by what became of it on its own.  Pure.
"""

from __future__ import annotations

from segue.probe.connection import Connection
from segue.probe.exchange import Exchange
from segue.probe.fates import End, Fate, Stage, decide


def pipelined(
    connection: Connection, fate: Fate, end: End, exchange: Exchange
) -> tuple[list[Fate], int]:
    """The fates of all that is not answered, the oldest request's own first; how many go again.

    On a connection that has served nothing all have one fate until a byte was written.
    """
    others = connection.left - 1
    if connection.stage is Stage.CONNECTED and connection.served and end in {End.EOF, End.RESET}:
        return [], connection.left
    # We gave up, not the server: whatever was asked has waited its time.
    if connection.stage not in {Stage.SENT, Stage.ANSWERING} or end is End.TIMEOUT:
        return [fate] * connection.left, 0
    if connection.reader.closing:
        return [fate], others
    # The last one begun is the whole of what is unsent until the kernel has taken a byte of it.
    unwritten = connection.behind + (connection.unsent is exchange.request)
    # After bytes that are no answer nothing that follows can be one.
    own = fate if end is End.NONSENSE else decide(Stage.SENT, end)
    return [fate] + [own] * (others - unwritten), unwritten
