"""Requests that wait to be read, as filters write them down."""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import ExitStack

import pytest
from tests.engine.carrying import PORT, dial
from tests.engine.test_carry_notes import REQUEST, Scene, watched

from segue.address import Address
from segue.engine.carry import Carrier
from segue.engine.carry_waiting import PLACES, Waiting
from segue.linux.sockopt import cookie, open_listener

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]


def rung(waiting: Waiting) -> bool:
    return bool(select.select([waiting.bell], [], [], 0)[0])


def test_what_is_not_read_is_known() -> None:
    """By cookie and inode, and since when; until it is read."""
    with watched() as scene:
        ends = [scene.connect() for _ in range(20)]
        before = time.monotonic()
        for one in ends:
            one.client.sendall(REQUEST)
        found = {one.cookie: one for one in scene.carrier.unread()}
        assert found.keys() == {cookie(one.old) for one in ends}
        for one in ends:
            seen = found[cookie(one.old)]
            assert seen.inode == os.fstat(one.old.fileno()).st_ino
            assert before <= seen.since <= time.monotonic()
        for one in ends[:10]:
            one.read(len(REQUEST))
        assert {one.cookie for one in scene.carrier.unread()} == {cookie(o.old) for o in ends[10:]}
        for one in ends[10:]:
            one.read(len(REQUEST))
        assert not scene.carrier.unread()


def test_a_request_that_is_begun_waits_no_more() -> None:
    """Its owner moves."""
    with watched() as scene:
        one = scene.connect()
        one.client.sendall(REQUEST)
        one.read(1)
        assert not scene.carrier.unread()


def test_one_that_is_not_accepted_has_no_owner() -> None:
    """An accept queue shows it."""
    with watched() as scene, socket.create_connection(("127.0.0.1", 8080)) as client:
        client.sendall(REQUEST)
        (seen,) = scene.carrier.unread()
        assert seen.inode == 0


@pytest.mark.parametrize("way", ["close", "reset", "carry"])
def test_a_connection_that_is_gone_frees_its_place(way: str) -> None:
    """Whether it was read or not."""
    with watched() as scene:
        one = scene.connect()
        one.ask(REQUEST)
        one.answer()
        one.client.sendall(REQUEST)
        assert scene.carrier.unread()
        if way == "close":
            one.old.close()
        elif way == "reset":
            one.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.client.close()
        else:
            assert one.carry(None, unread=True).carried
        assert not scene.carrier.unread()


def test_the_oldest_of_a_place_stays() -> None:
    """A place is freed by being read, not by what comes after it."""
    with watched() as scene:
        first = scene.connect()
        first.client.sendall(REQUEST)
        for _ in range(2 * PLACES):
            _answered(scene)
        assert [one.cookie for one in scene.carrier.unread()] == [cookie(first.old)]


def _answered(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", 8080)) as client:
        old = scene.listener.accept()[0]
        with old:
            client.sendall(REQUEST)
            old.recv(len(REQUEST))


def test_whether_something_came_is_asked_once() -> None:
    """It counts from a scan on."""
    with watched() as scene:
        waiting = scene.carrier.waiting
        one = scene.connect()
        one.ask(REQUEST)
        scene.carrier.unread()
        assert waiting.came()
        assert not waiting.came()
        one.answer()
        scene.carrier.unread()
        assert not waiting.came()


def test_the_bell_rings_once() -> None:
    """At the next request, and not at an answer."""
    with watched() as scene:
        waiting = scene.carrier.waiting
        one = scene.connect()
        one.ask(REQUEST)
        scene.carrier.unread()
        assert not rung(waiting)
        waiting.arm()
        one.answer()
        assert not rung(waiting)
        one.client.sendall(REQUEST)
        assert rung(waiting)
        waiting.arm()
        assert not rung(waiting)
        waiting.disarm()
        one.read(len(REQUEST))
        one.answer()
        scene.carrier.unread()
        one.ask(REQUEST)
        assert not rung(waiting)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_at_a_dual_stack_listener(host: str) -> None:
    """By both versions of IP."""
    with (
        Carrier() as carrier,
        open_listener(Address("::", PORT), backlog=9, v6only=False) as listener,
        ExitStack() as stack,
    ):
        assert carrier.watch(listener) is None
        client = stack.enter_context(dial(host))
        old = stack.enter_context(listener.accept()[0])
        client.sendall(REQUEST)
        assert [one.cookie for one in carrier.unread()] == [cookie(old)]
        assert old.recv(len(REQUEST)) == REQUEST
        assert not carrier.unread()
