"""Small servers in threads, for what the misbehaving one does not speak: TLS and WebSocket."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import PATIENCE

PORT = 8080
ANSWER = b"HTTP/1.1 200 OK\r\nX-Generation: %s\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@contextmanager
def misbehaving(*faults: str, port: int = PORT) -> Iterator[dict[str, int]]:
    """The server of faults.py; after the block the yielded counts hold what it did."""
    did: dict[str, int] = {}
    command = [sys.executable, str(Path(__file__).with_name("faults.py")), str(port), *faults]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        try:
            assert process.stdout.readline() == b"ready\n"
            yield did
        finally:
            process.stdin.close()
            said = process.stdout.read()
            process.wait(PATIENCE)
        did.update(json.loads(said))


@contextmanager
def serving(handle: Callable[[socket.socket, int], None]) -> Iterator[None]:
    """``handle`` is given each connection and its number, in a thread of its own."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            if over.is_set():
                sock.close()
                return
            threads.append(threading.Thread(target=one, args=(sock, len(threads))))
            threads[-1].start()

    def one(sock: socket.socket, number: int) -> None:
        with sock, suppress(OSError):
            handle(sock, number)

    with socket.create_server(("127.0.0.1", PORT), backlog=200) as listener:
        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", PORT)).close()
            accepting.join(PATIENCE)
            for thread in threads:
                thread.join(PATIENCE)


def certificate(folder: Path, name: str) -> Path:
    """A new self-signed certificate for 127.0.0.1, and its key, in one file."""
    key, cert, both = (folder / f"{name}.{end}" for end in ("key", "crt", "pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key)]
    command += ["-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(key.read_text() + cert.read_text())
    return both


def secure(*files: Path, change_at: int = 0) -> Callable[[socket.socket, int], None]:
    """Answers over TLS; from connection ``change_at`` on with the second certificate."""
    contexts = []
    for file in files:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(file)

    def handle(sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = contexts[0] if number < change_at or len(contexts) == 1 else contexts[1]
        with context.wrap_socket(sock, server_side=True) as stream:
            stream.recv(4096)
            stream.sendall(ANSWER % (b"old" if context is contexts[0] else b"new"))
            with suppress(ssl.SSLError):
                stream.unwrap()

    return handle


def upgrade(sock: socket.socket) -> None:
    """Answer a WebSocket's handshake."""
    asked = sock.recv(4096)
    (key,) = [
        line.partition(b": ")[2]
        for line in asked.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    ]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def pong(sock: socket.socket) -> bytes:
    """Read one frame of a client and answer it if it is a ping; the frame."""
    data = sock.recv(4096)
    if data[:1] == b"\x89":
        payload = data[6 : 6 + (data[1] & 0x7F)]
        sock.sendall(bytes([0x8A, len(payload)]) + payload)
    return data
