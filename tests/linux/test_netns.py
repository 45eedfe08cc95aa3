"""Network namespaces on the live kernel."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from tests.waiting import PATIENCE

from segue.errors import KernelError, UsageError
from segue.linux import netns


def identity() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


@pytest.mark.root
def test_a_fresh_namespace_has_loopback_and_nothing_else() -> None:
    """Inside one can connect to oneself; afterwards the thread is home again."""
    home = identity()
    with netns.fresh():
        assert identity() != home
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=PATIENCE).close()
    assert identity() == home


@pytest.mark.root
def test_the_thread_comes_home_when_the_block_raises() -> None:
    """An exception inside is no reason to stay."""
    home = identity()
    with pytest.raises(ZeroDivisionError), netns.fresh():
        raise ZeroDivisionError
    assert identity() == home


def test_an_interface_that_is_not_there_is_said() -> None:
    """ENODEV, with the name of the interface."""
    with pytest.raises(KernelError, match="setting interface none7 up"):
        netns.raise_interface("none7")


@pytest.mark.root
def test_a_namespace_is_found_by_pid_and_by_path(tmp_path: Path) -> None:
    """The one its process is in, however it is named; a name that is none is refused."""
    with netns.fresh(), subprocess.Popen(["cat"], stdin=subprocess.PIPE) as inside:
        for text in (str(inside.pid), f"/proc/{inside.pid}/ns/net"):
            found = netns.find(text)
            assert os.fstat(found).st_ino == os.stat(f"/proc/{inside.pid}/ns/net").st_ino
            os.close(found)
        inside.communicate(b"", timeout=PATIENCE)
    for text in ("no-such-namespace", str(2**22), str(tmp_path / "nowhere")):
        with pytest.raises(UsageError, match="does not name a network namespace"):
            netns.find(text)


def test_a_namespace_is_visited_by_path_and_left_again() -> None:
    """Inside is the other's interface list; "" stays where one is."""
    home = identity()
    with netns.fresh() as outer:
        there = identity()
        with netns.fresh():
            inner = identity()
            with netns.visited(f"/proc/self/fd/{outer}"):
                assert identity() == there
                with netns.visited(""):
                    assert identity() == there
            assert identity() == inner
    assert identity() == home


@pytest.mark.root
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("no-such-name", "does not name a network namespace: /run/netns/no-such-name"),
        ("/proc/self/ns/none", "No such file"),
        ("99999999", "/proc/99999999/ns/net cannot be opened"),
    ],
)
def test_a_namespace_that_is_not_there_is_said(where: str, said: str) -> None:
    """With the path that was looked for."""
    with pytest.raises(UsageError, match=said), netns.visited(where):
        pass


@pytest.mark.root
def test_what_is_no_namespace_cannot_be_entered() -> None:
    """EINVAL, and that it is no question of rights."""
    with (
        pytest.raises(KernelError, match="that is no network namespace"),
        netns.visited("/proc/self/stat"),
    ):
        pass
