"""A WebSocket held open: what it says between and after pings, and how we leave it."""

from __future__ import annotations

from contextlib import suppress

from segue.errors import WireError
from segue.probe.connection import Connection
from segue.probe.fates import End, Ended, Stage
from segue.probe.websocket import CLOSE, WebSocketReader, frame

# RFC 6455 section 7.4.1.
GOING_AWAY = (1001).to_bytes(2)


def hear(connection: Connection, reader: WebSocketReader, data: bytes) -> Ended | None:
    """Bytes came, whether or not a ping is out; None while the connection goes on."""
    try:
        whole = reader.feed(data)
    except WireError as error:
        return connection.nonsense(error)
    if reader.reply:
        _reply(connection, reader.reply)
        reader.reply = b""
    if reader.closed:
        return Ended(End.CLOSE, f"close frame with code {reader.closed}")
    if whole and connection.stage.asked:
        return Ended(End.COMPLETE)
    return None


def leave(connection: Connection) -> None:
    """Say that we go, where the connection is held; it is not closed here."""
    if connection.stage is Stage.HELD:
        _reply(connection, frame(CLOSE, GOING_AWAY))


def _reply(connection: Connection, data: bytes) -> None:
    # Best effort: a peer that reads nothing will find out by our close.
    with suppress(OSError, WireError):
        connection.sock.send(data)
