"""A server that binds itself as Go, Java, gRPC and node do: with an IPv6 socket that takes IPv4."""

from __future__ import annotations

import socket
import sys

host, port = sys.argv[1:]
with socket.socket(socket.AF_INET6) as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((host, int(port)))
    listener.listen(100)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
