"""``segue doctor``: what it proves, and what it counts."""

from __future__ import annotations

import errno
import socket

import pytest

from segue.cli.main import main
from segue.errors import KernelError
from segue.linux import features, prctl, sysctl
from segue.linux.netlink import Netlink


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_doctor_says_what_a_restart_would_lose(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three queued connections are counted as three; the engine is named with its proof."""
    with socket.create_server(("127.0.0.1", 8080)) as server:
        clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
        assert main(["doctor", "127.0.0.1:8080"]) == 0
        for client in clients:
            client.close()
    said = capsys.readouterr().out
    assert "the engine migrate" in said
    row = next(line for line in said.splitlines() if line.startswith("127.0.0.1:8080"))
    assert row.split()[-5:] == ["1", "3", "0", "0", "3"]


@pytest.mark.root
@pytest.mark.kernel("6.9")
def test_doctor_says_whether_connections_can_be_carried(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Proven by carrying one; else why not."""
    said = []
    for syncookies in ("1", "0"):
        sysctl.write("net.ipv4.tcp_syncookies", syncookies)
        assert main(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        said.append(next(one for one in lines if one.startswith("accepted connections can be")))
    assert ": yes, one went to another listener" in said[0]
    assert ": no, net.ipv4.tcp_syncookies is 0" in said[1]


@pytest.mark.root
def test_doctor_on_a_free_address_says_so(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens there is an answer, not an error."""
    assert main(["doctor", "[::1]:8080"]) == 0
    assert "no process listens" in capsys.readouterr().out


@pytest.fixture
def no_tcp_diag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lists no sockets."""

    def dump(*args: object) -> list[memoryview]:
        raise KernelError("netlink", errno.ENOENT, "listing TCP sockets")

    monkeypatch.setattr(features, "_known", {})
    monkeypatch.setattr(Netlink, "dump", dump)


@pytest.mark.usefixtures("no_tcp_diag")
def test_doctor_goes_on_where_sockets_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1, the module that is missing in the first line, and the tables all the same."""
    # Of the process of all tests, for which it would be for good.
    monkeypatch.setattr(prctl, "set_child_subreaper", lambda: None)
    assert main(["doctor"]) == 1
    first, *rest = capsys.readouterr().out.splitlines()
    assert "would not start" in first
    assert "tcp_diag (CONFIG_INET_TCP_DIAG)" in " ".join([first, *rest[:2]])
    assert next(line for line in rest if line.startswith("sock_diag")).split()[1] == "no"
    assert any(line.startswith("- net.core.somaxconn") for line in rest)
    assert main(["run", "--bind", "127.0.0.1:1", "--", "true"]) == 1
    assert "tcp_diag (CONFIG_INET_TCP_DIAG)" in capsys.readouterr().err


@pytest.mark.usefixtures("no_tcp_diag")
def test_status_needs_no_list_of_sockets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root's looks for instances of the users that listen; that there is none is what it says."""
    monkeypatch.delenv("SEGUE_DIRECTORY", raising=False)
    assert main(["status", "--name", "no-such-instance"]) == 1
    assert "no instance of that name is running" in capsys.readouterr().err


def test_doctor_refuses_what_is_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage: 2, and what to write."""
    assert main(["doctor", "somewhere:80"]) == 2
    assert "write the number" in capsys.readouterr().err
