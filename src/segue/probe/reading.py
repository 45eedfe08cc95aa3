"""What comes on a connection, in the words of ``fates``: one recv(), and what it ended.

The client's loop decides when; nothing is counted here.
"""

from __future__ import annotations

from segue.errors import WireError
from segue.probe import websocket_session
from segue.probe.connection import Connection
from segue.probe.fates import End, Ended, Stage
from segue.probe.progress import Step
from segue.probe.websocket import WebSocketReader

CHUNK = 16384
HEARD = 200  # bytes of an answer that are kept: enough for the reason of a refusal


def read(connection: Connection, *, pausing: bool) -> Ended | None:
    """Read once; None while the attempt goes on, or nothing was there to read.

    ``pausing``: we have not sent anything yet, so even a whole answer is not the end.
    """
    try:
        data = connection.sock.recv(CHUNK)
    except BlockingIOError:
        return None
    except OSError as error:
        return Ended.by(error)
    except WireError as error:
        return connection.nonsense(error)
    if connection.stage is Stage.IDLE:
        return Ended(End.NONSENSE if data else End.EOF)
    if not data:
        # A held connection is lost: one on which we pause, or a WebSocket without a ping out.
        kept = pausing or not connection.stage.asked
        whole = connection.reader.eof() and not kept
        return Ended(End.COMPLETE if whole else End.EOF, "FIN")
    if isinstance(connection.reader, WebSocketReader):
        return websocket_session.hear(connection, connection.reader, data)
    return _feed(connection, data, pausing=pausing)


def behind(connection: Connection) -> Ended | None:
    """Read on in what came together with the answer before, where requests are pipelined."""
    data, connection.surplus = connection.surplus, b""
    return _feed(connection, data, pausing=False) if data else None


def _feed(connection: Connection, data: bytes, *, pausing: bool) -> Ended | None:
    if connection.stage is not Stage.ANSWERING:
        connection.heard = data[:HEARD]
    connection.advance(Step.RECEIVED)
    try:
        # What comes during the pause may be whole; the pause goes on.
        if connection.reader.feed(data) and not pausing:
            return Ended(End.COMPLETE)
    except WireError as error:
        return connection.nonsense(error)
    return None
