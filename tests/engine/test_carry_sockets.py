"""Which connections a process has open, by the table of its files."""

from __future__ import annotations

import os
import socket

import pytest

from segue.engine.carry_sockets import Place, Sockets
from segue.linux import pidfd, proc, sockopt

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]


def test_only_what_both_sides_have_open_is_listed() -> None:
    """By cookie, with number and port; not listeners, nor what was closed in part."""
    with Sockets() as sockets, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(listener.getsockname()) as client:
            with listener.accept()[0] as accepted, socket.socket(socket.AF_UNIX):
                cookie = sockopt.cookie(accepted)
                found = sockets.established(os.getpid())
                assert found[cookie] == Place(accepted.fileno(), port)
                assert len(found) == 2
                accepted.shutdown(socket.SHUT_WR)
                assert cookie not in sockets.established(os.getpid())
            assert client.recv(1) == b""


def test_a_duplicate_elsewhere_does_not_hide_that_a_process_has_closed_its_own() -> None:
    """The only thing that tells."""
    with Sockets() as sockets, socket.create_server(("127.0.0.1", 0)) as listener:
        pid = os.fork()
        if pid == 0:
            with socket.create_connection(listener.getsockname()) as client:
                client.recv(1)
                client.close()
                listener.accept()
            os._exit(0)
        with listener.accept()[0] as accepted:
            (theirs,) = sockets.established(pid)
            number = sockets.established(pid)[theirs].number
            with pidfd.duplicate_socket(pid, number) as duplicate:
                assert sockopt.cookie(duplicate) == theirs
                accepted.send(b"x")
                while sockets.established(pid):
                    assert not proc.ending(pid)
                assert theirs in sockets.established(os.getpid())
                with socket.create_connection(listener.getsockname()):
                    os.waitpid(pid, 0)
    assert proc.ending(pid)
