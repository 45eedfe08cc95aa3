"""A server that misbehaves on purpose, and says what it did to how many connections.

Runs in a process of its own: ``python tests/probe/faults.py PORT FAULT...``.  Connection number n
meets fault n modulo their number.  It says "ready", serves until its stdin closes, then prints its
counts as JSON.  One thread, epoll, so that it keeps up with the probe.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections import Counter

BODY = b"0123456789" * 5
LINGER_0 = struct.pack("ii", 1, 0)  # on, for 0 s: close() sends RST


def response(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


LENGTH = f"Content-Length: {len(BODY)}"
WHOLE = response("200 OK", LENGTH, "Connection: close") + BODY
KEPT = response("200 OK", LENGTH) + BODY
CHUNKED = response("200 OK", "Transfer-Encoding: chunked", "Connection: close")
SAID = {
    "answer": WHOLE,
    "busy": response("503 Service Unavailable", "Content-Length: 0", "Connection: close"),
    "chunked": CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    "until_close": response("200 OK") + BODY,
    "half": WHOLE[:-10],
    "half_reset": WHOLE[:-10],
    "half_chunk": CHUNKED + b"%x\r\n%s" % (len(BODY), BODY[:9]),
    "stall": WHOLE[:-10],
    "nonsense": b"220 mail.example ESMTP\r\n",
    # Kept connections: answered and kept; answered and closed without a word; with one.
    "kept": KEPT,
    "kept_close": KEPT,
    "kept_polite": WHOLE,
}
SILENT = {"eof", "reset", "hang", "reset_at_once", "close_at_once", "kept_eof", "kept_reset"}
STAYS = {"hang", "stall", "kept"}
RESETS = {"reset", "half_reset", "reset_at_once", "kept_reset"}
AT_ONCE = {"reset_at_once", "close_at_once"}


class Server:
    """``faults`` by connection; for kept connections, by request, counted over all of them."""

    def __init__(self, port: int, faults: list[str]) -> None:
        unknown = set(faults) - set(SAID) - SILENT
        assert not unknown, unknown
        self.faults = faults
        self.by_request = faults[0].startswith("kept")
        self.did: Counter[str] = Counter()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.open: dict[int, tuple[socket.socket, str]] = {}
        self.number = 0
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.epoll.register(0, select.EPOLLIN)

    def next_fault(self) -> str:
        fault = self.faults[self.number % len(self.faults)]
        self.number += 1
        return fault

    def serve(self) -> None:
        while True:
            for fd, _ in self.epoll.poll():
                if fd == 0:
                    return
                if fd == self.listener.fileno():
                    self.accept()
                elif fd in self.open:
                    self.request(fd)

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.did["accepted"] += 1
            sock.setblocking(False)
            fault = "" if self.by_request else self.next_fault()
            self.open[sock.fileno()] = (sock, fault)
            if fault in AT_ONCE:
                self.do(sock, fault)
            else:
                self.epoll.register(sock, select.EPOLLIN)

    def request(self, fd: int) -> None:
        sock, fault = self.open[fd]
        try:
            data = sock.recv(4096)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close(sock)
            return
        assert data.endswith(b"\r\n\r\n"), "the probe's request fits one segment"
        self.do(sock, fault or self.next_fault())

    def do(self, sock: socket.socket, fault: str) -> None:
        self.did[fault] += 1
        if fault in SAID:
            sock.send(SAID[fault])
        if fault in RESETS:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        if fault not in STAYS:
            self.close(sock)

    def close(self, sock: socket.socket) -> None:
        del self.open[sock.fileno()]
        sock.close()


def main() -> None:
    server = Server(int(sys.argv[1]), sys.argv[2:])
    os.write(1, b"ready\n")
    server.serve()
    print(json.dumps(server.did))


if __name__ == "__main__":
    main()
