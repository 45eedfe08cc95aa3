"""The response reader beside h11: whatever a server may answer, both read the same."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import h11
from hypothesis import given
from hypothesis import strategies as st

from segue.probe.http1 import ResponseReader


class Read(NamedTuple):
    """What was read of the bytes, and once the server had closed."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    surplus: bytes
    complete: bool
    reusable: bool
    complete_at_eof: bool


def by_us(data: bytes, method: str) -> Read:
    reader = ResponseReader(method, keep_body=True)
    complete = reader.feed(data)
    reusable = reader.reusable
    at_eof = reader.eof()
    fields = dict(reader.head.fields) if reader.head else {}
    body = bytes(reader.body or b"")
    return Read(reader.status, fields, body, reader.surplus, complete, reusable, at_eof)


def by_h11(data: bytes, method: str) -> Read:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    fields: dict[bytes, bytes] = {}
    complete: list[bool] = []
    reusable, surplus = False, b""
    for given_data in (data, b""):
        connection.receive_data(given_data)
        whole = bool(complete and complete[0])
        while not whole:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                assert given_data == b""  # it misses the rest; the bytes themselves are legal
                break
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Response):
                status = event.status_code
                for name, value in event.headers:
                    fields[name] = fields[name] + b", " + value if name in fields else value
            elif isinstance(event, h11.Data):
                body += event.data
            whole = isinstance(event, h11.EndOfMessage)
        complete.append(whole)
        if whole and given_data:
            surplus = connection.trailing_data[0]
            reusable = connection.their_state is h11.DONE and not surplus
    return Read(status, fields, body, surplus, complete[0], reusable, complete[1])


BLANK = st.sampled_from([b"", b" ", b"\t", b"  "])
VALUE = st.from_regex(rb"[!-~]([ -~]{0,9}[!-~])?", fullmatch=True)
NAME = st.from_regex(rb"[Xx]-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True)


@st.composite
def field(draw: st.DrawFn, name: bytes, value: bytes) -> bytes:
    """One, in letters and blanks as they come."""
    cased = draw(st.sampled_from([name, name.lower(), name.upper()]))
    return cased + b":" + draw(BLANK) + value + draw(BLANK) + b"\r\n"


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """The body in chunks, with extensions and trailers."""
    cuts = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=4))})
    data = b""
    for begin, end in pairwise(cuts):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % (end - begin)
        data += size + draw(st.sampled_from([b"", b";a", b";a=b;c"])) + b"\r\n"
        data += body[begin:end] + b"\r\n"
    trailers = draw(st.lists(st.tuples(NAME, VALUE), max_size=2))
    return data + b"0\r\n" + b"".join(b"%s: %s\r\n" % one for one in trailers) + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Legal ones, whole: any framing, any version, with interim answers before."""
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    status = draw(st.sampled_from([200, 204, 304, 404, 599]))
    reason = draw(st.sampled_from([b" OK", b" Not so good", b" ", b""]))
    body = draw(st.binary(max_size=80))
    fields = [draw(field(*one)) for one in draw(st.lists(st.tuples(NAME, VALUE), max_size=4))]
    tokens = [b"close", b"x, Close"]
    if version != b"1.0":  # after which h11 always closes, and we keep what says so
        tokens.append(b"keep-alive")
    if draw(st.booleans()):
        fields.append(draw(field(b"Connection", draw(st.sampled_from(tokens)))))
    framing = draw(st.sampled_from(["length", "chunked", "both", "close"]))
    if framing in {"length", "both"}:
        length = b"%d" % len(body)
        fields += [draw(field(b"Content-Length", length))] * draw(st.integers(1, 2))
    if framing in {"chunked", "both"}:
        fields.append(draw(field(b"Transfer-Encoding", b"chunked")))
        body = draw(chunked(body))
    head = b"HTTP/%s %d%s\r\n" % (version, status, reason)
    fields = draw(st.permutations(fields))
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * draw(st.integers(0, 2))
    return interim + head + b"".join(fields) + b"\r\n" + body


@given(answers(), st.sampled_from(["GET", "HEAD", "POST"]), st.data())
def test_whatever_a_server_answers_is_read_as_h11_reads_it(
    data: bytes, method: str, more: st.DataObject
) -> None:
    """Whole, cut off anywhere, or with more behind it: status, fields, body, end and what then."""
    data += more.draw(st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"?"]))
    cut = more.draw(st.integers(0, 3 * len(data)))  # mostly not cut, or the end is seldom read
    data = data[: cut or None]
    expected, found = by_h11(data, method), by_us(data, method)
    # h11 keeps one of several lengths that agree, and tells the reason phrase apart.
    for read in (expected, found):
        read.fields.pop(b"content-length", None)
    assert found == expected
