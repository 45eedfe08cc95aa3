"""WebSockets held open: what is read from frames, and their fate when a server goes."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.probe.servers import PORT, pong, serving, upgrade

from segue.cli.main import main
from segue.errors import WireError
from segue.probe.websocket import ACCEPT, WebSocketReader, frame

AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)
URL = f"ws://127.0.0.1:{PORT}/"


def opened() -> WebSocketReader:
    reader = WebSocketReader()
    assert reader.feed(AGREED)
    return reader


def test_a_ping_waits_for_its_own_pong() -> None:
    """An unsolicited pong is none, and the second ping is not answered by the first's."""
    reader = opened()
    assert reader.status == 101
    assert reader.ping() == frame(0x9, b"1")
    assert not reader.feed(b"\x8a\x00")
    assert reader.feed(b"\x8a\x011")
    reader.ping()
    assert not reader.feed(b"\x8a\x011")
    assert reader.feed(b"\x8a\x012")
    assert (reader.status, reader.reusable) == (0, True)


def message(size: int, opcode: int) -> bytes:
    """A server's message, every byte of which looks like a close frame."""
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    return bytes([0x80 | opcode]) + length + b"\x88" * size


sizes = st.sampled_from([0, 5, 125, 126, 300, 66000])


@given(st.lists(st.tuples(sizes, st.sampled_from([0, 1, 2])), max_size=4), st.integers(1, 5000))
def test_messages_are_skipped_however_they_are_cut(sent: list[tuple[int, int]], size: int) -> None:
    """What looks like a close frame inside a message is a part of the message."""
    reader = opened()
    data = b"".join(message(*one) for one in sent) + b"\x89\x02hi" + b"\x88\x02\x03\xf4"
    # However small the pieces, not so many that the test is about its own loop.
    size = max(size, len(data) // 500)
    for begin in range(0, len(data), size):
        reader.feed(data[begin : begin + size])
    assert reader.closed == "1012"
    assert reader.reply == frame(0xA, b"hi") + frame(0x8, b"\x03\xf4")
    assert not reader.reusable


@pytest.mark.parametrize("data", [b"\x81\x85", b"\xc1\x00", b"\x89\x7e\x00\x80", b"\x8b\x00"])
def test_frames_that_no_server_may_send(data: bytes) -> None:
    """Masked, with an extension's bits, a long control frame, an opcode that is not."""
    with pytest.raises(WireError, match="none that a server may send"):
        opened().feed(data)


def test_a_handshake_that_is_no_answer_to_ours() -> None:
    """The accept field must come from our key; another status is an answer and no WebSocket."""
    with pytest.raises(WireError, match="our key"):
        WebSocketReader().feed(AGREED.replace(ACCEPT, b"AAAA"))
    reader = WebSocketReader()
    assert reader.feed(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    assert (reader.status, reader.open, reader.reusable) == (503, False, False)


def test_a_close_without_a_code() -> None:
    """Is 1005."""
    reader = opened()
    reader.feed(b"\x88\x00")
    assert reader.closed == "1005"


def probed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["probe", URL, "--json", "--no-check", *args]) == 0
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return report


@pytest.mark.root
def test_held_connections_stay(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One handshake each, then pings; at the end we say that we go."""
    frames: list[bytes] = []

    def handle(sock: socket.socket, number: int) -> None:
        upgrade(sock)
        sock.sendall(b"\x81\x05hello")
        while data := pong(sock):
            frames.append(data)

    with serving(handle):
        report = probed(capsys, "--websocket", "3", "--interval", "0.05", "--count", "30")
    assert report["counts"] == {"ok": 30}
    assert report["statuses"] == {"101": 3, "0": 27}
    assert sum(data[:1] == b"\x89" for data in frames) == 27
    assert sum(data[:1] == b"\x88" for data in frames) == 3


@pytest.mark.root
def test_a_close_frame_is_told_and_no_loss(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 1012 is "service restart": the client knows, and opens another."""

    def handle(sock: socket.socket, number: int) -> None:
        upgrade(sock)
        pong(sock)
        if number < 2:
            sock.sendall(b"\x88\x02\x03\xf4")
        while pong(sock):
            pass

    with serving(handle):
        report = probed(capsys, "--websocket", "2", "--interval", "0.1", "--count", "20")
    assert report["counts"]["closed"] == 2
    assert report["closes"] == {"1012": 2}
    assert report["lost"] == 0
    assert report["statuses"]["101"] == 4


@pytest.mark.root
@pytest.mark.parametrize("ended", ["fin", "reset"])
def test_an_end_without_a_word_is_a_loss(
    netns: int, capsys: pytest.CaptureFixture[str], ended: str
) -> None:
    """The session's user notices, whether or not a ping was out."""

    def handle(sock: socket.socket, number: int) -> None:
        upgrade(sock)
        if number < 2:
            if ended == "reset":
                # Closed with bytes unread: the kernel sends RST.
                sock.recv(1)
            else:
                pong(sock)
            return
        while pong(sock):
            pass

    with serving(handle):
        report = probed(capsys, "--websocket", "2", "--interval", "0.2", "--count", "12")
    assert report["lost"] == 2
    fates = {"fin": {"cut"}, "reset": {"reset_after", "eof", "cut"}}[ended]
    assert set(report["counts"]) - {"ok"} <= fates
