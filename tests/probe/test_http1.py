"""The response reader: the same for every split of the bytes, and strict about nonsense."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import WireError
from segue.probe.http1 import HEAD_LIMIT, LINE_LIMIT, ResponseReader, parse_head

Seen = tuple[object, ...]


def read(chunks: list[bytes], *, method: str = "GET", eof: bool = False) -> Seen:
    """Everything a reader tells after these chunks, or that it refused them."""
    reader = ResponseReader(method, keep_body=True)
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except WireError as error:
        return ("refused", error.where)
    if eof:
        reader.eof()
    return (
        reader.status,
        reader.complete,
        reader.reusable,
        reader.closing,
        reader.size,
        bytes(reader.body or b""),
        reader.surplus,
    )


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@dataclass(frozen=True)
class Made:
    """A response as bytes, and what must be read from it."""

    data: bytes
    status: int
    body: bytes
    framing: str


@st.composite
def responses(draw: st.DrawFn) -> Made:
    """Whole responses in each framing, with interim ones before and trailers after."""
    status = draw(st.sampled_from([200, 204, 304, 404, 503]))
    body = b"" if status in {204, 304} else draw(st.binary(max_size=60))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    head = f"HTTP/1.1 {status} Word\r\nX-Pid: 7\r\n".encode()
    data = body
    if framing == "length":
        head += b"Content-Length: %d\r\n" % len(body)
    elif framing == "chunked":
        head += b"Transfer-Encoding: chunked\r\n"
        if status not in {204, 304}:
            pieces = [piece for piece in split(body, draw(st.lists(st.integers(0, 60)))) if piece]
            data = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            data += b"0\r\n" + draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])) + b"\r\n"
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]))
    return Made(interim * draw(st.integers(0, 3)) + head + b"\r\n" + data, status, body, framing)


@given(responses(), st.lists(st.integers(0, 500)), st.sampled_from([b"", b"HTTP/1.1 200 O"]))
def test_any_split_of_the_bytes_tells_the_same(made: Made, cuts: list[int], after: bytes) -> None:
    """The reader cannot see where the network cut the bytes."""
    data = made.data + after
    assert read(split(data, cuts), eof=True) == read([data], eof=True)


@given(responses())
def test_a_whole_response_is_complete_and_none_shorter(made: Made) -> None:
    """Every proper beginning is incomplete, but where the close is what ends the body."""
    status, complete, _, _, size, body, surplus = read([made.data], eof=True)
    assert (status, complete, size, body, surplus) == (
        made.status, True, len(made.body), made.body, b"",
    )  # fmt: skip
    if made.framing != "close":
        for end in range(len(made.data)):
            assert read([made.data[:end]], eof=True)[1] is False


@given(st.binary(max_size=80), st.lists(st.integers(0, 80)))
def test_any_bytes_at_all_are_refused_or_read_whatever_the_split(
    noise: bytes, cuts: list[int]
) -> None:
    """Noise never raises anything but WireError, and the split never changes the verdict."""
    for begin in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        data = begin + noise
        assert read(split(data, cuts)) == read([data])


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "status line"),
        (b"\x15\x03\x01", "status line"),
        (b"HTTP/2 200\r\n\r\n", "status line"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header field"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "chunk"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * HEAD_LIMIT, "head"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (LINE_LIMIT + 1),
            "chunk size",
        ),
    ],
)
def test_nonsense_is_refused_and_said_where(data: bytes, where: str) -> None:
    """The error names the part of the response that is wrong."""
    with pytest.raises(WireError) as caught:
        ResponseReader().feed(data)
    assert caught.value.where == where


@pytest.mark.parametrize("length", [LINE_LIMIT, LINE_LIMIT + 1])
def test_the_limit_of_a_line_does_not_depend_on_the_split(length: int) -> None:
    """The last byte before the limit is allowed and the next is not, fed one by one or at once."""
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"t" * length + b"\r\n\r\n"
    )
    at_once = read([data])
    assert at_once == read([bytes([byte]) for byte in data])
    assert (at_once[0] == "refused") == (length > LINE_LIMIT)


@pytest.mark.parametrize(
    ("head", "closing", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", True, False),
        (b"HTTP/1.1 200 OK\r\nconnection: foo, CLOSE\r\nContent-Length: 0\r\n\r\n", True, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", True, False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", False, True),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", False, False),
    ],
)
def test_when_a_connection_may_be_used_again(head: bytes, closing: bool, reusable: bool) -> None:
    """By version and Connection field, as RFC 9112 section 9.3 says."""
    reader = ResponseReader()
    assert reader.feed(head)
    assert (reader.closing, reader.reusable) == (closing, reusable)


def test_a_close_that_ends_the_body_ends_the_connection() -> None:
    """Without a length the answer is whole at the close, and nothing can follow."""
    reader = ResponseReader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert reader.eof()
    assert (reader.size, reader.reusable) == (5, False)


def test_an_answer_to_head_has_no_body() -> None:
    """Its Content-Length is that of the GET."""
    assert read([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"], method="HEAD")[1] is True


def test_fields_are_found_by_lower_case_names() -> None:
    """Repeated ones are joined; one that is not there is empty."""
    head = parse_head(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\n\r\n")
    assert head.fields[b"x-a"] == b"1, 2"
    reader = ResponseReader()
    assert reader.field(b"x-a") == b""
    reader.feed(b"HTTP/1.1 204 No Content\r\nX-Generation: 3\r\n\r\n")
    assert (reader.field(b"x-generation"), reader.field(b"x-pid")) == (b"3", b"")
