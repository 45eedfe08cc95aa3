"""What a worker is asked by HTTP: how it is read, sent, and judged; and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import UsageError
from segue.supervisor.question import Question


def made(path: str = "/h", host: str = "", *headers: str, statuses: str = "") -> Question:
    return Question.of("--ready-http", path, host, headers, statuses)


def test_the_request_has_the_address_unless_a_host_is_given() -> None:
    """And the headers in their order; the connection ends with the answer."""
    assert made().request("127.0.0.1:80") == (
        b"GET /h HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: segue\r\nConnection: close\r\n\r\n"
    )
    asked = made("/h?a=b", "shop.example:81", "X-A:  b c ", "user-agent: me").request("x:1")
    assert asked == (
        b"GET /h?a=b HTTP/1.1\r\nHost: shop.example:81\r\nX-A: b c\r\nuser-agent: me\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("host", "name"),
    [("", ""), ("a.b", "a.b"), ("a.b:81", "a.b"), ("[::1]:81", "[::1]"), ("10.0.0.1", "10.0.0.1")],
)
def test_sni_has_the_host_without_its_port(host: str, name: str) -> None:
    """As browsers do."""
    assert made("https:/h", host).name == name


def test_https_is_part_of_the_path_and_of_the_sentence() -> None:
    """It is the same path then."""
    asked = made("https:/h")
    assert (asked.https, asked.path, str(asked)) == (True, "/h", "GET https:/h")
    assert (made().https, str(made())) == (False, "GET /h")


@pytest.mark.parametrize(
    ("statuses", "good", "bad"),
    [
        ("", [200, 204, 299], [199, 300, 404]),
        ("200-399", [200, 302], [199, 400]),
        ("200, 204,301-302", [200, 204, 301, 302], [201, 300, 303]),
        ("401", [401], [200]),
    ],
)
def test_which_statuses_are_good(statuses: str, good: list[int], bad: list[int]) -> None:
    """Without a word, 2xx."""
    asked = made(statuses=statuses)
    assert all(asked.accepts(one) for one in good)
    assert not any(asked.accepts(one) for one in bad)


@pytest.mark.parametrize(
    "path", ["", "h", "https:", "https:h", "http:/h", "/a b", "/a\r\nX: y", "/ä"]
)
def test_a_path_is_one_word_that_begins_with_a_slash(path: str) -> None:
    """Else it would be another request."""
    with pytest.raises(UsageError, match="--ready-http must be a path such as /health"):
        made(path)


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a/b", "ä", "a:b", ":80", "u@h", "a" * 300])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    """With or without a port."""
    with pytest.raises(UsageError, match="--ready-host must be a name"):
        made("/h", host)


@pytest.mark.parametrize(
    "header", ["", "X", "X Y: z", ": z", "X: a\r\nY: b", "X: a\nY", "X: \0", "X: ä", "X\r: a"]
)
def test_a_header_is_one_line_with_a_colon(header: str) -> None:
    """Nothing gets a second line into the request."""
    with pytest.raises(UsageError, match="--ready-header must be"):
        made("/h", "", header)


def test_what_is_not_the_users_to_send_is_refused() -> None:
    """The host has a flag of its own; a value, which may be a secret, is not repeated."""
    with pytest.raises(UsageError, match=r"use --ready-host a\.b"):
        made("/h", "", "Host: a.b")
    with pytest.raises(UsageError, match="Transfer-Encoding: this header is Segue's own to send"):
        made("/h", "", "Transfer-Encoding: chunked")
    with pytest.raises(UsageError, match="got 'Authorization'") as refused:
        made("/h", "", "Authorization: sesame\n")
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "statuses", ["2xx", "99", "600", "300-200", "200-", "-299", ",", "200;204"]
)
def test_statuses_are_numbers_and_ranges(statuses: str) -> None:
    """Between 100 and 599."""
    with pytest.raises(UsageError, match="--ready-status must be a list of statuses"):
        made(statuses=statuses)


@given(st.text(), st.text(), st.text())
def test_whatever_is_given_there_is_one_request_or_a_refusal(
    path: str, host: str, header: str
) -> None:
    """One line for each header that was given, and one empty line."""
    try:
        asked = made(path, host, *([header] if header else []))
    except UsageError:
        return
    head, _, rest = asked.request("x:1").partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert rest == b""
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert len(lines) <= 4 + bool(header)
