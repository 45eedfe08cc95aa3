"""Answers every connection once, until stdin closes: as little as a server can do."""

from __future__ import annotations

import select
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve(host: str, port: int) -> None:
    """Says "ready" on stdout once it listens."""
    listener = socket.create_server((host, port), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    epoll.register(0, select.EPOLLIN)
    waiting: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == 0:
                return
            if descriptor in waiting:
                with waiting.pop(descriptor) as connection:
                    if connection.recv(4096):
                        connection.send(ANSWER)
                continue
            try:
                while True:
                    connection, _ = listener.accept()
                    waiting[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)
            except BlockingIOError:
                pass


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
