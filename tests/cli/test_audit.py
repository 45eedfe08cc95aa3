"""``segue audit``: what it prints, for people and for programs, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import socket

import pytest

from segue.address import Address
from segue.cli.main import main
from segue.linux import netns as namespaces
from segue.linux.sockopt import open_listener

pytestmark = pytest.mark.root
HERE = Address("127.0.0.1", 8080)
Said = pytest.CaptureFixture[str]


def test_one_listener_has_nothing_to_be_compared_with(netns: int, capsys: Said) -> None:
    """0, its owner, and a sentence."""
    with open_listener(HERE, backlog=8):
        assert main(["audit", str(HERE)]) == 0
    said = capsys.readouterr().out
    assert f"({os.getpid()})" in said
    assert "nothing to compare it with" in said


def test_what_can_break_connections_is_refused(netns: int, capsys: Said) -> None:
    """1, with the values, whose they are, and what a migrating connection notices."""
    with open_listener(HERE, backlog=8) as one, open_listener(HERE, backlog=8):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        assert main(["audit", str(HERE)]) == 1
        said = capsys.readouterr().out
        assert re.search(r"refused: TCP_DEFER_ACCEPT is \d \(#[12]\), \d \(#[12]\)", said)
        assert "a half-open request gets its new" in said
        assert main(["audit", str(HERE), "--allow", "TCP_DEFER_ACCEPT"]) == 0
        said = capsys.readouterr().out
        assert "allowed: TCP_DEFER_ACCEPT" in said
        assert "nothing differs that matters" in said


def test_a_warning_is_1_too(netns: int, capsys: Said) -> None:
    """So that a script need not read."""
    with open_listener(HERE, backlog=8), open_listener(HERE, backlog=8, nodelay=False):
        assert main(["audit", str(HERE)]) == 1
        assert "warned of: TCP_NODELAY" in capsys.readouterr().out
        assert main(["audit", str(HERE), "--allow", "SO_MARK, TCP_NODELAY"]) == 0


def test_as_json_it_names_listeners_by_cookie(netns: int, capsys: Said) -> None:
    """All that is shown, and the exit code as a field."""
    with open_listener(HERE, backlog=8), open_listener(HERE, backlog=9, nodelay=False):
        assert main(["audit", "--json", str(HERE)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["matters"] is True
    cookies = {one["cookie"] for one in told["listeners"]}
    assert {one["backlog"] for one in told["listeners"]} == {8, 9}
    by_name = {one["name"]: one for one in told["findings"]}
    assert by_name["BACKLOG"]["level"] == "fine"
    found = by_name["TCP_NODELAY"]
    assert (found["level"], found["request"], found["matters"]) == ("warn", "target", True)
    assert {cookie for one in found["values"] for cookie in one["cookies"]} == cookies


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["127.0.0.1:8080"], "no process listens at 127.0.0.1:8080"),
        (["somewhere:80"], "write the number"),
        ([":8080", "--netns", "no-such"], "does not name a network namespace"),
        ([], "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_2(netns: int, capsys: Said, args: list[str], said: str) -> None:
    """With what is wrong."""
    assert main(["audit", *args]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_option_cannot_be_allowed(netns: int, capsys: Said) -> None:
    """It was meant to allow something."""
    with open_listener(HERE, backlog=8):
        assert main(["audit", str(HERE), "--allow", "tcp_nodelay"]) == 2
    assert "did you mean TCP_NODELAY" in capsys.readouterr().err


def test_another_namespace_can_be_looked_at(netns: int, capsys: Said) -> None:
    """By path: in the inner one no process listens."""
    with open_listener(HERE, backlog=8), namespaces.fresh():
        assert main(["audit", str(HERE)]) == 2
        assert main(["audit", str(HERE), "--netns", f"/proc/self/fd/{netns}"]) == 0
