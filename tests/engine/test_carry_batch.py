"""Connections carried together: one stop of their owner, a word of its own about each."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from tests.engine.carrying import after, ask, carry, dial, other_host, servers, settled
from tests.waiting import PATIENCE

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Report, Wish
from segue.linux import cbpf, pidfd, socket_filter
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

_SO_LOCK_FILTER = 44
_LONG = 60.0  # seconds: a budget that is never over


@contextmanager
def several(count: int, *, watched: bool) -> Iterator[tuple[Carrier, socket.socket, list[Ends]]]:
    """A listener, and so many connections that this process has accepted from it."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        listener = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=99))
        if watched:
            assert carrier.watch(listener) is None
        ends = []
        for _ in range(count):
            client = stack.enter_context(dial("127.0.0.1"))
            ends.append((client, stack.enter_context(listener.accept()[0])))
        yield carrier, listener, ends


Ends = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("watched", [True, False])
def test_one_stop_for_all(watched: bool) -> None:
    """Whether the filter was inherited or not."""
    with ExitStack() as stack:
        scene = stack.enter_context(servers("127.0.0.1"))
        carrier = stack.enter_context(Carrier())
        if watched:
            for server in scene.servers:
                assert carrier.watch(server.listener) is None
        clients = [stack.enter_context(dial("127.0.0.1")) for _ in range(20)]
        old = [stack.enter_context(scene.servers[0].accepted()) for _ in clients]
        for client, connection in zip(clients, old, strict=True):
            ask(client, b"one")
            settled(connection)
            assert socket_filter.present(connection) == watched
        scene.steering.share({1: 1.0})
        wishes = [Wish(one) for one in old]
        limit = time.monotonic() + PATIENCE
        while wishes:
            owners, targets = [scene.servers[0].process.pid], [scene.servers[1].listener]
            reports = carrier.batch(wishes, targets, owners, _LONG)
            assert [one.wish for one in reports] == wishes
            wishes = [one.wish for one in reports if not one.carried]
            assert time.monotonic() < limit, reports
        for client in clients:
            assert ask(client, b"two") == b"Btwo"
        # What our filter is not there for has none afterwards either.
        for _ in clients:
            with scene.servers[1].accepted() as new:
                assert socket_filter.present(new) == watched


@pytest.mark.parametrize("watched", [True, False])
def test_the_caller_has_a_word_about_each(watched: bool) -> None:
    """What it refuses is left alone; with our filter or without one as before."""
    with several(3, watched=watched) as (carrier, listener, ends):
        words = [None, Refusal.OWED, None]
        asked: list[int] = []

        def word(number: int) -> Refusal | None:
            asked.append(number)
            return words[number]

        wishes = [Wish(old, partial(word, number)) for number, (_, old) in enumerate(ends)]
        reports = carrier.batch(wishes, [listener], [], _LONG)
        assert [one.refused for one in reports] == words
        assert [one.carried for one in reports] == [True, False, True]
        assert asked == [0, 1, 2]
        client, old = ends[1]
        assert socket_filter.present(old) == watched
        client.sendall(b"x")
        assert old.recv(9) == b"x"


def test_what_is_not_reached_is_for_later() -> None:
    """One is tried at least, and the others are as they were."""
    with several(3, watched=True) as (carrier, listener, ends):
        reports = carrier.batch([Wish(old) for _, old in ends], [listener], [], 0.0)
        assert [one.carried for one in reports] == [True, False, False]
        assert [one.later for one in reports] == [False, True, True]
        for client, old in ends[1:]:
            client.sendall(b"x")
            assert old.recv(9) == b"x"


def test_one_that_has_ended_is_no_matter_for_the_others() -> None:
    """Its client has closed it, or its duplicate is closed."""
    with several(3, watched=True) as (carrier, listener, ends):
        ends[0][0].close()
        ends[1][1].shutdown(socket.SHUT_RDWR)
        reports = carrier.batch([Wish(old) for _, old in ends], [listener], [], _LONG)
        assert not reports[0].carried
        assert not reports[1].carried
        assert reports[2].carried


def test_what_nobody_takes_is_pending() -> None:
    """No call waits for it: it is looked at again when it is due, and then the client is reset."""
    with several(1, watched=True) as (carrier, listener, [(client, old)]):
        with after("guard", listener.close):
            (report,) = carrier.batch([Wish(old)], [listener], [], _LONG)
        assert str(report) == "pending: no listener has taken it yet"
        assert not report.carried
        settled_as: list[Report] = []
        while (due := carrier.due) is not None:
            time.sleep(max(0.0, due - time.monotonic()))
            settled_as += carrier.settle()
        assert [(one.wish, one.carried, one.pending) for one in settled_as] == [
            (report.wish, False, False)
        ]
        with pytest.raises(ConnectionResetError):
            client.recv(9)


def test_a_listener_is_watched_or_it_is_said_why_not() -> None:
    """What its owner has put there stays; a predecessor's goes."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())

        def listener() -> socket.socket:
            return stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=9))

        classic = listener()
        cbpf.attach_filter(classic, [cbpf.answer(0xFFFF)])
        assert carrier.watch(classic) is Refusal.FILTERED
        locked = listener()
        locked.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
        assert carrier.watch(locked) is Refusal.LOCKED
        earlier = listener()
        with Carrier() as predecessor:
            assert predecessor.watch(earlier) is None
        assert carrier.watch(earlier) is None


def test_a_connection_whose_filter_is_locked_is_left_alone() -> None:
    """It cannot be held; one that has inherited our filter can."""
    for watched, why in ((False, Refusal.LOCKED), (True, None)):
        with several(1, watched=watched) as (carrier, listener, [(client, old)]):
            old.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
            (report,) = carrier.batch([Wish(old)], [listener], [], _LONG)
            assert report.refused is why
            if why is not None:
                client.sendall(b"x")
                assert old.recv(9) == b"x"


def test_the_filter_of_a_carrier_that_is_gone_lets_everything_through() -> None:
    """And the next one puts its own in its place."""
    with several(1, watched=True) as (carrier, listener, [(client, old)]):
        carrier.close()
        client.sendall(b"x")
        assert old.recv(9) == b"x"
        old.sendall(b"y")
        client.recv(9)
        settled(old)
        with Carrier() as next_one:
            assert next_one.carry(old, [listener]).carried


def test_an_interface_that_comes_later() -> None:
    """It gets the classifier when it is looked for; what comes by it is left alone until then."""
    with Carrier() as carrier, servers("0.0.0.0") as scene:
        with other_host() as there:
            with dial("10.9.0.1", peer=there) as client, scene.servers[0].accepted() as old:
                ask(client, b"one")
                settled(old)
                assert scene.carry(carrier, old)[0].refused is Refusal.UNSEEN
                carrier.follow_interfaces()
                # Its segment would be answered with a reset but for the classifier there.
                with after("disconnect", lambda: client.sendall(b"two")):
                    report, _ = scene.carry(carrier, old)
                assert report.carried
                assert client.recv(9) == b"Btwo"
            subprocess.run(["ip", "link", "del", "s0"], check=True)
        carrier.follow_interfaces()


_WATCHING = """
import os, select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
client, _ = listener.accept()
epoll = select.epoll()
epoll.register(client, select.EPOLLIN)
print(client.fileno(), flush=True)
while True:
    epoll.poll()
    if not client.recv(99):
        break
    client.sendall(b"!")
client.close()  # which is all that takes it out of the set, if nobody has a duplicate
print(epoll.poll(0), flush=True)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_its_owner_closes_it_for_good(attempt: int) -> None:
    """No duplicate is left when the owner goes on: an epoll set forgets what was closed."""
    del attempt
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        listener = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=9))
        owner = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", _WATCHING, str(listener.fileno())],
                pass_fds=[listener.fileno()],
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        )
        stack.callback(owner.kill)
        assert owner.stdout is not None
        client = stack.enter_context(dial("127.0.0.1"))
        old = stack.enter_context(pidfd.duplicate_socket(owner.pid, int(owner.stdout.readline())))
        client.sendall(b"?")
        assert client.recv(9) == b"!"
        settled(old)
        report = carry(carrier, old, listener, owner.pid)
        assert report.carried, report
        assert owner.stdout.readline() == b"[]\n"


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_request_that_was_answered_at_once_is_not_made_again(first: str) -> None:
    """Both sides have closed before anybody looks whether the connection was made."""
    with several(1, watched=True) as (carrier, listener, ((client, old),)):

        def answer_and_end() -> None:
            connection = listener.accept()[0]
            assert connection.recv(99) == b"GET / HTTP/1.1\r\n\r\n"
            connection.sendall(b"answer")
            assert client.recv(99) == b"answer"
            ends = (client, connection) if first == "client" else (connection, client)
            for one in ends:
                one.close()

        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with after("finish", answer_and_end):
            report = carrier.carry(old, [listener])
        assert report.carried, report
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
