"""A server with a thread for each connection, which accepts one in 10 ms, from a queue of three."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time


def serve(connection: socket.socket) -> None:
    """Answer each request, which comes whole."""
    body = b"hello\n"
    fields = b"Content-Length: %d\r\nX-Pid: %d" % (len(body), os.getpid())
    with connection:
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + body)


def main() -> None:
    """On the listener whose number is given."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.listen(2)
    listener.setblocking(True)
    while True:
        connection, _ = listener.accept()
        connection.setblocking(True)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
