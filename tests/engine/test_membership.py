"""When a group is looked at again: told by the kernel, or by the clock."""

from __future__ import annotations

import select

import pytest
from tests.policy.clients import IPV4, connect
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.membership import PACE, SLOW_PACE, MembershipWatch
from segue.errors import KernelError
from segue.linux import tracefs
from segue.linux.sockopt import open_listener


@pytest.mark.root
@pytest.mark.kernel("4.16")
def test_the_kernel_tells_of_listeners_of_this_port_only(netns: int) -> None:
    """One that begins to listen, one that ends; no connection, and no other port."""
    watch = MembershipWatch(IPV4.port, now=0.0)
    assert watch.traced, watch.why
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        assert watch.due(0.0) == (True, True)
        assert watch.deadline() == SLOW_PACE
        with open_listener(Address("127.0.0.1", 8081), backlog=8):
            pass
        assert not poll.poll(0)
        listener = open_listener(IPV4, backlog=8)
        assert poll.poll(1000 * PATIENCE)
        watch.notified(0.5)
        # It is looked for in a listing for a while: the event comes first.
        assert watch.due(0.5) == (True, True)
        assert watch.deadline() < 0.5 + PACE
        assert watch.due(0.7) == (True, False)
        assert watch.deadline() == 0.7 + SLOW_PACE
        with connect(IPV4):
            listener.accept()[0].close()
        assert not poll.poll(0)
        # One of our own that opens and closes is no reason to look; another one beside it is.
        with open_listener(IPV4, backlog=8):
            pass
        watch.notified(0.8, own=2)
        assert watch.due(0.8) == (False, False)
        with open_listener(IPV4, backlog=8), open_listener(IPV4, backlog=8):
            pass
        watch.notified(0.9, own=2)
        assert watch.due(0.9) == (True, True)
        listener.close()
        assert poll.poll(1000 * PATIENCE)
    finally:
        watch.close()
        watch.close()


@pytest.mark.root
@pytest.mark.kernel("4.16")
def test_a_trace_that_fails_is_given_up_for_the_clock(
    netns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, so that nothing that came meanwhile is missed."""

    def broken(_: tracefs.Tracepoint) -> list[tracefs.Event]:
        raise KernelError("read", 5, "reading the trace")

    watch = MembershipWatch(IPV4.port, now=0.0)
    watch.due(0.0)
    monkeypatch.setattr(tracefs.Tracepoint, "read", broken)
    watch.notified(0.5)
    assert (watch.traced, watch.fileno()) == (False, -1)
    assert "reading the trace" in watch.why
    assert watch.due(0.5) == (True, True)
    assert watch.due(1.0) == (True, False)
    assert watch.deadline() == 1.0 + PACE


def test_without_the_kernels_word_it_is_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Often, and now and then thoroughly; why the kernel does not tell is known."""

    def refused() -> int:
        raise KernelError("fsopen", 1, "opening tracefs")

    monkeypatch.setattr(tracefs, "_open_root", refused)
    watch = MembershipWatch(80, now=10.0)
    assert (watch.traced, watch.fileno()) == (False, -1)
    assert "opening tracefs" in watch.why
    assert watch.due(10.0) == (True, True)
    assert watch.due(10.01) == (False, False)
    assert watch.due(10.0 + PACE) == (True, False)
    assert watch.due(10.0 + SLOW_PACE) == (True, True)
    watch.took(0.001)  # so long that the usual pace would be two percent of a core
    assert watch.due(12.0) == (True, True)
    assert watch.deadline() == 12.2
    watch.close()


def test_it_may_be_asked_not_to_trace() -> None:
    """For a host whose tracing is somebody else's."""
    watch = MembershipWatch(80, now=0.0, traced=False)
    assert not watch.traced
    watch.close()
