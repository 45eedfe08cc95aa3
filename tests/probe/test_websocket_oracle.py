"""The WebSocket reader beside wsproto: what its server sends is read, and what we send it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from segue.probe.exchange import websocket
from segue.probe.websocket import WebSocketReader


def opened() -> tuple[WSConnection, WebSocketReader]:
    """Both ends after the handshake."""
    server, exchange = WSConnection(ConnectionType.SERVER), websocket("127.0.0.1:80", "/")
    server.receive_data(exchange.request)
    (asked,) = server.events()
    assert isinstance(asked, Request)
    reader = WebSocketReader()
    assert reader.feed(server.send(AcceptConnection()))
    assert reader.open
    return server, reader


SIZES = st.sampled_from([0, 1, 125, 126, 300, 65535, 65536])
PAYLOADS = st.one_of(st.binary(max_size=9), st.binary(min_size=120, max_size=125))
SENT = st.one_of(
    st.builds(BytesMessage, data=SIZES.map(bytes), message_finished=st.just(True)),
    st.builds(TextMessage, data=SIZES.map("x".__mul__), message_finished=st.just(True)),
    st.builds(Ping, payload=PAYLOADS),
    st.builds(Pong, payload=PAYLOADS.filter(lambda payload: payload != b"1")),
)
CODES = st.sampled_from([1000, 1001, 1011, 1012, 3000, 4999])


@given(st.lists(SENT, max_size=6), CODES, st.text(max_size=20), st.integers(1, 70_000))
def test_what_a_server_sends_is_read(sent: list[Event], code: int, reason: str, size: int) -> None:
    """Its pings are answered in their order, and its close with its code, however it is cut."""
    server, reader = opened()
    server.receive_data(reader.ping())
    (ping,) = server.events()
    assert isinstance(ping, Ping)
    data = b"".join(server.send(event) for event in sent)
    said = [data, server.send(ping.response()), server.send(CloseConnection(code, reason))]
    whole = b"".join(said)
    for begin in range(0, len(whole), max(size, len(whole) // 500)):
        reader.feed(whole[begin : begin + max(size, len(whole) // 500)])
    assert (reader.complete, reader.closed, reader.reusable) == (True, str(code), False)
    server.receive_data(reader.reply)
    *pongs, close = server.events()
    assert [pong.payload for pong in pongs if isinstance(pong, Pong)] == [
        event.payload for event in sent if isinstance(event, Ping)
    ]
    assert isinstance(close, CloseConnection)
    assert close.code == code
