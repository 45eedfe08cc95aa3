"""What the first bytes of a request say of it."""

from __future__ import annotations

import pytest

from segue.observe.request_head import BLOCK, Head, Seen, read

LONG = b"X-Long: " + b"x" * BLOCK + b"\r\n"
HEADS: dict[bytes, Seen] = {
    b"GET / HTTP/1.1\r\nHost: here\r\n\r\n": Seen.LINE,
    b"GET / HTTP/1.0\r\n\r\n": Seen.LINE | Seen.LAST,
    b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n": Seen.LINE | Seen.LAST,
    b"GET / HTTP/1.1\r\nconnection:close\r\n\r\n": Seen.LINE | Seen.LAST,
    b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n": Seen.LINE,
    b"HEAD / HTTP/1.1\r\n\r\n": Seen.LINE | Seen.HEAD,
    b"GET /\r\n": Seen.UNFINISHED,
    b"GET / HTTP/1.1": Seen.UNFINISHED,
    b"GET / HTTP/1.1\r\nHost: here\r\n": Seen.LINE | Seen.UNFINISHED,
    b"GET / HTTP/2.0\r\n\r\n": Seen.UNFINISHED,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": Seen.UNFINISHED,
    b"hello": Seen.UNFINISHED,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": Seen.PREFACE | Seen.UNFINISHED,
    b"CONNECT here:1 HTTP/1.1\r\n\r\n": Seen.LINE | Seen.UPGRADE,
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: me\r\n\r\n": Seen.LINE | Seen.UPGRADE,
    b"GET / HTTP/1.1\r\nupgrade:h2c\r\n\r\n": Seen.LINE | Seen.UPGRADE,
    b"GET / HTTP/1.1\r\nUpgrade-Insecure-Requests: 1\r\n\r\n": Seen.LINE,
    b"GET / HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n": Seen.LINE | Seen.STREAM,
    b"GET / HTTP/1.1\r\nACCEPT:TEXT/EVENT-STREAM\r\n\r\n": Seen.LINE | Seen.STREAM,
    b"GET / HTTP/1.1\r\nAccept: text/html\r\nHost: here\r\n\r\n": Seen.LINE,
    b"GET /text/event-stream HTTP/1.1\r\nHost: here\r\n\r\n": Seen.LINE,
    b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n": Seen.LINE | Seen.EXPECT,
    b"PUT / HTTP/1.1\r\nExpect:100-continue\r\n\r\n": Seen.LINE | Seen.EXPECT,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n": Seen.LINE | Seen.CHUNKED,
    b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n": Seen.LINE | Seen.CHUNKED,
    b"POST / HTTP/1.1\r\nContent-Length: 1234567890\r\n\r\n": Seen.LINE | Seen.CHUNKED,
    b"POST / HTTP/1.1\r\ncontent-length:123456789\r\n\r\n": Seen.LINE,
    b"POST / HTTP/1.1\r\nContent-Encoding: br\r\n\r\n": Seen.LINE,
    # A body, and a second request.
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello": Seen.LINE,
    b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n": Seen.LINE | Seen.EARLY,
    b"HEAD /1 HTTP/1.1\r\n\r\n\r\n": Seen.LINE | Seen.HEAD | Seen.EARLY,
    b"GET / HTTP/1.1\r\n" + LONG + b"\r\n": Seen.LINE | Seen.UNFINISHED,
    b"GET / HTTP/1.1\r\nUpgrade: x\r\n" + LONG: Seen.LINE | Seen.UPGRADE | Seen.UNFINISHED,
    b"GET /" + b"x" * BLOCK + b" HTTP/1.1\r\n\r\n": Seen.UNFINISHED,
    b"": Seen.UNFINISHED,
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_what_a_head_says(head: bytes) -> None:
    """Lines of HTTP/1.x, and the headers after which an answer may not end."""
    assert read(head).seen == HEADS[head]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"Host: here", 0),
        (b"Content-Length: 5", 5),
        (b"CONTENT-LENGTH:0", 0),
        (b"content-length:123456789", 123_456_789),
        (b"Content-Length: 40 ", 40),
    ],
)
def test_where_a_request_ends(header: bytes, body: int) -> None:
    """Behind its body, whether that has come or not."""
    head = b"POST / HTTP/1.1\r\n" + header + b"\r\n\r\n"
    assert read(head) == Head(Seen.LINE, len(head) + body)
    assert read(head + b"more") == Head(Seen.LINE, len(head) + body)
