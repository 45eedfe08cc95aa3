"""Where a client thinks that it is connected."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack

import pytest

from segue.errors import KernelError
from segue.linux import conntrack


class Answering:
    """A connection whose kernel gives this answer to SO_ORIGINAL_DST."""

    def __init__(self, host: str, answer: bytes | int) -> None:
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host, self.answer = host, answer
        self.asked = 0

    def getsockname(self) -> tuple[str, int]:
        return self.host, 8080

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert option == 80
        self.asked = level
        if isinstance(self.answer, int):
            raise OSError(self.answer, "")
        return self.answer[:size]


IPV4 = struct.pack("=H2s4s8x", socket.AF_INET, b"\x00\x50", bytes((10, 9, 0, 1)))
IPV6 = struct.pack("=H2s4x16s4x", socket.AF_INET6, b"\x00\x50", bytes(15) + b"\x01")


@pytest.mark.parametrize(
    ("host", "answer", "level", "found"),
    [
        ("10.9.0.1", IPV4, socket.IPPROTO_IP, ("10.9.0.1", 80)),
        ("::ffff:10.9.0.1", IPV4, socket.IPPROTO_IP, ("::ffff:10.9.0.1", 80)),
        ("::1", IPV6, socket.IPPROTO_IPV6, ("::1", 80)),
        ("10.9.0.1", errno.ENOENT, socket.IPPROTO_IP, None),
        ("10.9.0.1", errno.ENOPROTOOPT, socket.IPPROTO_IP, None),
    ],
)
def test_the_target_of_the_client(
    host: str, answer: bytes | int, level: int, found: tuple[str, int] | None
) -> None:
    """In each family, and nothing where nothing is tracked."""
    connection = Answering(host, answer)
    assert conntrack.original_target(connection) == found  # type: ignore[arg-type]
    assert connection.asked == level


def test_another_error_is_said() -> None:
    """With the kernel's name for it."""
    with pytest.raises(KernelError, match="EPERM"):
        conntrack.original_target(Answering("10.9.0.1", errno.EPERM))  # type: ignore[arg-type]


@pytest.mark.root
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_connection_that_nothing_tracks(host: str) -> None:
    """The running kernel knows the question, or says that it does not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = ("::" if family == socket.AF_INET6 else host, 0)
    with ExitStack() as stack:
        listener = socket.create_server(where, family=family, dualstack_ipv6=":" in host)
        stack.enter_context(listener)
        stack.enter_context(socket.create_connection((host, listener.getsockname()[1])))
        server = stack.enter_context(listener.accept()[0])
        assert conntrack.original_target(server) in {None, server.getsockname()[:2]}
