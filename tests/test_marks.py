"""What a worker's processes say of their peers, in the page that they share."""

from __future__ import annotations

import os

import pytest

from segue import page
from segue.page import Mark, Says
from segue.worker import Marks

KEY = bytes(16)


@pytest.fixture
def shared() -> memoryview:
    made = bytearray(page.BYTES)
    made[:24] = page.new(KEY)
    return memoryview(made)


def said(shared: memoryview, host: str, port: int) -> Says | None:
    who = page.peer(host, port)
    assert who is not None
    found: Mark | None = page.read(bytes(shared), page.place(KEY, who, os.getpid()), 0)
    return found.says if found else None


def test_a_peer_is_busy_and_then_kept(shared: memoryview) -> None:
    """Or nothing is said of it, when its connection ends or its answer is not whole."""
    marks = Marks(shared)
    assert page.present(shared)
    for kept, after in ((True, Says.KEPT), (False, None), (True, Says.KEPT)):
        request = marks.begin("10.0.0.1", 1000)
        assert said(shared, "10.0.0.1", 1000) is Says.BUSY
        marks.end(request, kept=kept)
        assert said(shared, "10.0.0.1", 1000) is after
    assert said(shared, "10.0.0.1", 1001) is None


def test_a_peer_whose_answer_has_no_end(shared: memoryview) -> None:
    """Until it ends after all, or asks for something else besides."""
    marks = Marks(shared)
    marks.lasting(None)
    events = marks.begin("10.0.0.1", 1000)
    marks.lasting(events)
    assert said(shared, "10.0.0.1", 1000) is Says.LASTING
    other = marks.begin("10.0.0.1", 1000)
    assert said(shared, "10.0.0.1", 1000) is Says.BUSY
    marks.end(other, kept=True)
    marks.end(events, kept=True)
    assert said(shared, "10.0.0.1", 1000) is Says.KEPT
    marks.lasting(events)
    assert said(shared, "10.0.0.1", 1000) is Says.KEPT


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_requests_of_one_peer_that_overlap(shared: memoryview, first: bool, second: bool) -> None:
    """It is busy until the last has ended, and kept only if all were answered whole."""
    marks = Marks(shared)
    one, two = marks.begin("10.0.0.1", 1000), marks.begin("10.0.0.1", 1000)
    marks.end(one, kept=first)
    assert said(shared, "10.0.0.1", 1000) is Says.BUSY
    marks.end(two, kept=second)
    assert said(shared, "10.0.0.1", 1000) is (Says.KEPT if first and second else None)


def test_a_peer_without_an_address_is_passed_over(shared: memoryview) -> None:
    """As behind a proxy's middleware."""
    marks = Marks(shared)
    marks.end(marks.begin("client", 0), kept=True)
    assert not any(page.words(shared))


def test_a_forked_process_has_marks_of_its_own(shared: memoryview) -> None:
    """What its parent had begun is none of its business."""
    marks = Marks(shared)
    before = marks.begin("10.0.0.1", 1000)
    marks.forked()
    marks.end(before, kept=True)
    assert said(shared, "10.0.0.1", 1000) is Says.BUSY
