"""What is sent, and how an answer outside HTTP is judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.probe.exchange import Expect, http, raw


def test_a_request_asks_for_the_close_it_wants() -> None:
    """One request a connection says so, so that the server closes first and keeps no port."""
    assert b"\r\nConnection: close\r\n" in http("a:80").request
    assert b"\r\nConnection: keep-alive\r\n" in http("a:80", keep_alive=True).request
    request = http("a:80", "/x?y=1", method="HEAD", fields=(("X-A", "b c"),)).request
    assert request.startswith(b"HEAD /x?y=1 HTTP/1.1\r\nHost: a:80\r\n")
    assert b"\r\nX-A: b c\r\n" in request
    assert request.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("x", ()),
        ("/a b", ()),
        ("/a\r\nX: y", ()),
        ("/€", ()),
        ("/", (("X", "a\r\nb"),)),
        ("/", (("X Y", "a"),)),
    ],
)
def test_what_is_no_request_is_refused(path: str, fields: tuple[tuple[str, str], ...]) -> None:
    """Nothing a user types becomes a second header or a second request."""
    with pytest.raises(UsageError):
        http("a:80", path, fields=fields)


@given(st.binary(max_size=30), st.integers(1, 30))
def test_the_wanted_bytes_are_found_across_splits(before: bytes, step: int) -> None:
    """A banner may come in pieces, with anything before it."""
    data = before + b"220 ready"
    reader = Expect(b"220 ready")
    found = [reader.feed(data[at : at + step]) for at in range(0, len(data), step)]
    assert found[-1]
    assert reader.complete
    assert reader.reusable


def test_without_wanted_bytes_the_connection_is_the_answer() -> None:
    """Connecting is all that is asked."""
    assert raw().reader().complete


def test_a_close_can_be_what_is_waited_for() -> None:
    """Bytes do not end it, the close does; and then nothing follows."""
    reader = raw(b"QUIT\r\n", None).reader()
    assert not reader.feed(b"bye\r\n")
    assert reader.eof()
    assert not reader.reusable


def test_a_close_before_the_wanted_bytes_is_no_answer() -> None:
    """What is left open is decided by the fate table: EOF or PARTIAL."""
    reader = Expect(b"OK")
    assert not reader.feed(b"O")
    assert not reader.eof()
    assert (reader.status, reader.field(b"x"), reader.closing) == (0, b"", False)
