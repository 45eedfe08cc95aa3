"""A listener of another process: duplicated, gone, or out of reach, each said as what it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.linux.unprivileged import as_nobody

from segue.address import Address
from segue.engine.adoption import at_port
from segue.engine.duplicate import duplicate
from segue.errors import NotSupported, UsageError
from segue.group import Listener
from segue.linux.sockopt import cookie, open_listener
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

HERE = Address("127.0.0.1", 8080)


@pytest.fixture
def listening(netns: int) -> Iterator[socket.socket]:
    with open_listener(HERE, backlog=9) as made:
        yield made


def seen_without_owners() -> Listener:
    """As when its process ended, or was started, while processes were looked at."""
    with Observer() as observer:
        (found,) = observer.snapshot(HERE).listeners
    return replace(found, owners=())


def test_an_owner_that_was_missed_is_looked_for_again(listening: socket.socket) -> None:
    """A process that was started just then may have it."""
    taken = duplicate(seen_without_owners())
    assert taken is not None
    with taken:
        assert cookie(taken) == cookie(listening)


def test_one_that_ended_just_now_is_gone(listening: socket.socket) -> None:
    """No right is wanting: nobody is sent to look for one."""
    found = seen_without_owners()
    listening.close()
    assert duplicate(found) is None


def test_a_port_whose_listener_ended_just_now_has_none(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for segue adopt."""
    found = seen_without_owners()
    listening.close()
    monkeypatch.setattr("segue.engine.adoption.listeners_of", lambda *_: [found])
    with Observer() as observer, pytest.raises(UsageError, match="no process listens at port 8080"):
        at_port(observer, 8080)


def test_one_that_no_process_has_is_not_said_to_need_a_right(listening: socket.socket) -> None:
    """Root sees every process here; the listener may be a container's, or under way to somebody."""
    found = seen_without_owners()
    way, end = socket.socketpair()
    with way, end:
        socket.send_fds(way, [b"x"], [listening.fileno()])
        listening.close()
        with pytest.raises(
            NotSupported, match="needs a process that has it, in this PID namespace"
        ):
            duplicate(found)


def test_without_the_right_it_is_said_which(listening: socket.socket) -> None:
    """The process of another user may be looked into with two capabilities."""

    def refused() -> str:
        listening.close()  # the copy of this child
        try:
            duplicate(seen_without_owners())
        except NotSupported as error:
            return str(error)
        return "duplicated"

    said = as_nobody(refused)
    assert "needs the right to look into its process" in said
    assert said.endswith("of uid 0")
