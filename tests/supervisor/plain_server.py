"""A plain server with a listener of its own, and nothing to say for how it stops.

    python plain_server.py HOST PORT [WORK_MS [HOOK_MS]]

It answers one connection after the other, WORK_MS each.  On SIGTERM it finishes the one it has,
runs its shutdown hook for HOOK_MS, and exits: what waits in its queue goes with its listener.
SIGUSR1 makes it shut its listener down and listen again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time


def main(host: str, port: str, work_ms: str = "0", hook_ms: str = "0") -> None:
    """Serve until SIGTERM."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, int(port)))
    wake, waker = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    listener.listen(1024)
    while True:
        ready = select.select([listener.fileno(), wake], [], [])[0]
        if wake in ready:
            if signal.SIGTERM in os.read(wake, 64):
                break
            listener.shutdown(socket.SHUT_RDWR)
            listener.listen(1024)
            continue
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionError):  # a client may reset it
            client.settimeout(5)
            if client.recv(65536):
                time.sleep(int(work_ms) / 1000)
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
                    b"X-Pid: %d\r\n\r\n" % os.getpid()
                )
    time.sleep(int(hook_ms) / 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
