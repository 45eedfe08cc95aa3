"""The page: places, marks, and what is lost when there are too many."""

from __future__ import annotations

import pytest

from segue import page
from segue.page import Mark, Says

KEY = bytes(range(16))


def fresh() -> bytearray:
    made = bytearray(page.BYTES)
    made[:24] = page.new(KEY, page.DRAINING)
    return made


def peer(number: int) -> bytes:
    found = page.peer(f"10.0.{number >> 14}.1", 1024 + number % (1 << 14))
    assert found is not None
    return found


def test_a_new_page_has_the_stage_the_key_and_nothing_else() -> None:
    """And nobody marks peers in it before it is said."""
    made = fresh()
    assert page.stage(made) == page.DRAINING
    assert page.key_of(bytes(made)) == KEY
    assert not page.present(made)
    page.announce(memoryview(made))
    assert page.present(made)
    assert not page.present(made[:1])


@pytest.mark.parametrize(
    ("host", "same"), [("10.0.0.1", "::ffff:10.0.0.1"), ("fe80::1%eth0", "fe80::1")]
)
def test_one_peer_has_one_name(host: str, same: str) -> None:
    """By IPv4 or mapped; with the zone or without."""
    assert page.peer(host, 80) == page.peer(same, 80) != page.peer(host, 81)


@pytest.mark.parametrize(
    ("host", "port"), [("localhost", 80), ("", 80), ("10.0.0.1", 0), ("10.0.0.1", 65536), ("é", 1)]
)
def test_what_is_no_address_with_a_port_is_no_peer(host: str, port: int) -> None:
    """As a proxy's word for its client."""
    assert page.peer(host, port) is None


def test_a_mark_is_read_as_it_was_written() -> None:
    """By its own process only; with its age, also over the wrap of the clock."""
    made = fresh()
    words = page.words(memoryview(made))
    mine, other = (page.place(KEY, peer(1), pid) for pid in (7, 8))
    assert page.read(bytes(made), mine, 0) is None
    for written, now, age in [(5, 12, 7), ((1 << 28) - 3, (1 << 28) + 4, 7)]:
        page.write(words, mine, Says.KEPT, written)
        assert page.read(bytes(made), mine, now) == Mark(Says.KEPT, age)
        assert page.read(bytes(made), other, now) is None
    page.write(words, mine, Says.KEPT, 30)
    assert page.read(bytes(made), mine, 25) == Mark(Says.KEPT, 0)
    page.write(words, mine, Says.BUSY, 20)
    assert page.read(bytes(made), mine, 21) == Mark(Says.BUSY, 1)
    page.write(words, mine, None, 22)
    assert page.read(bytes(made), mine, 23) is None
    assert not any(words)


def test_another_key_leads_elsewhere() -> None:
    """So that no client chooses its place."""
    assert page.place(KEY, peer(1), 7) != page.place(bytes(16), peer(1), 7)


def crowd(count: int) -> list[page.Place]:
    """So many peers, whose words are in one bucket."""
    bucket, found = page.place(KEY, peer(0), 7).bucket, list[page.Place]()
    number = 0
    while len(found) < count:
        where = page.place(KEY, peer(number), 7)
        found += [where] if where.bucket == bucket else []
        number += 1
    return found


def test_the_oldest_that_is_answered_makes_room() -> None:
    """Never one that is being answered: then the newcomer has no mark."""
    made = fresh()
    words = page.words(memoryview(made))
    *eight, ninth, tenth = crowd(10)
    for age, one in enumerate(eight):
        page.write(words, one, Says.BUSY if age < 2 else Says.KEPT, 10 + age)
    page.write(words, ninth, Says.BUSY, 50)
    marks = [page.read(bytes(made), one, 50) for one in [*eight, ninth]]
    assert [mark is None for mark in marks] == [False, False, True] + [False] * 6
    for one in eight[3:]:
        page.write(words, one, Says.BUSY, 60)
    page.write(words, tenth, Says.BUSY, 70)
    assert page.read(bytes(made), tenth, 70) is None


def test_most_of_ten_thousand_have_a_place() -> None:
    """A bucket that is full costs a mark."""
    made = fresh()
    words = page.words(memoryview(made))
    places = [page.place(KEY, peer(number), 7) for number in range(10_000)]
    for one in places:
        page.write(words, one, Says.KEPT, 1)
    data = bytes(made)
    assert sum(page.read(data, one, 2) is not None for one in places) > 9_500
