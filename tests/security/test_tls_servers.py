"""A TLS server that sends what is no answer, for as long as it is read."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from socket import SocketType

import pytest
from tests.probe.servers import certificate

from segue.probe.tls import RECORD, Tls, TlsSocket, options

pytestmark = [pytest.mark.root, pytest.mark.program("openssl")]


class Endless:
    """A socket that has what a server said to read, and counts how often it is read."""

    def __init__(self, said: bytes, sock: SocketType) -> None:
        self.said, self.reads = said, 0
        self.fileno, self.getsockopt, self.send = sock.fileno, sock.getsockopt, sock.send

    def recv(self, number: int) -> bytes:
        self.reads += 1
        given, self.said = self.said[:number], self.said[number:]
        return given


def shaken(tmp_path: Path, tickets: int) -> tuple[TlsSocket, Callable[[], bytes]]:
    """A client after its handshake, and what gives all that the server has for it."""
    file = certificate(tmp_path, "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.num_tickets = tickets
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    plain = options("", insecure=True)
    client = TlsSocket(ours, Tls(plain.context, "localhost"))
    for _ in range(4):
        try:
            client.handshake()
        except BlockingIOError:
            if select.select([theirs], [], [], 0)[0]:
                incoming.write(theirs.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
            told = outgoing.read()
            if told:
                theirs.send(told)
        else:
            break
    incoming.write(theirs.recv(65536))
    server.do_handshake()
    theirs.close()
    return client, outgoing.read


def test_session_tickets_without_end_let_others_have_their_turn(tmp_path: Path) -> None:
    """A read stops after some of them, though more are there."""
    client, rest = shaken(tmp_path, 20_000)
    tickets = rest()
    assert len(tickets) > 100 * RECORD
    endless = Endless(tickets, client._sock)
    client._sock.close()
    client._sock = endless  # type: ignore[assignment]
    with pytest.raises(BlockingIOError):
        client.recv(65536)
    assert 1 < endless.reads < 100
    before = endless.reads
    with pytest.raises(BlockingIOError):
        client.recv(65536)
    assert endless.reads > before
