"""Addresses: what is read, what is refused, and with which advice."""

from __future__ import annotations

import socket

import pytest

from segue.address import Address
from segue.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port", "zone"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, ""),
        (":8080", "0.0.0.0", 8080, ""),
        ("8080", "0.0.0.0", 8080, ""),
        ("*:8080", "0.0.0.0", 8080, ""),
        ("localhost:1", "127.0.0.1", 1, ""),
        ("[::1]:65535", "::1", 65535, ""),
        ("[::]:80", "::", 80, ""),
        ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80, ""),
        ("[::ffff:7f00:1]:80", "::ffff:127.0.0.1", 80, ""),
        ("[fe80::1%eth0]:80", "fe80::1", 80, "eth0"),
    ],
)
def test_each_shape_is_read(text: str, host: str, port: int, zone: str) -> None:
    """The four shapes, with and without a zone."""
    address = Address.parse(text)
    assert (address.host, address.port, address.zone) == (host, port, zone)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80"])
def test_text_and_value_round_trip(text: str) -> None:
    """What is printed can be read again."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "not a port"),
        ("example.org:80", "write the number"),
        ("127.0.0.1:http", "not a port"),
        ("127.0.0.1:0", "name the port"),
        ("127.0.0.1:70000", "above 65535"),
        ("::1:80", "brackets"),
        ("[::1:80", "brackets"),
        ("[fe80::1]:80", "needs a zone"),
        ("[::1%eth0]:80", "only a link-local"),
        ("127.0.0.1%lo:80", "only a link-local"),
    ],
)
def test_nonsense_is_refused_with_what_to_write(text: str, advice: str) -> None:
    """One sentence: what is wrong, and what to write instead."""
    with pytest.raises(UsageError, match=advice):
        Address.parse(text)


def test_the_near_host_reaches_a_wildcard() -> None:
    """The supervisor health-checks a wildcard address over loopback of its family."""
    assert Address.parse(":1").near == "127.0.0.1"
    assert Address.parse("[::]:1").near == "::1"
    assert Address.parse("10.0.0.1:1").near == "10.0.0.1"
    assert Address.parse("[::]:1").family is socket.AF_INET6
