"""A body sent slowly: all of it, in pieces, and what becomes of those that are cut off."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.probe.servers import ANSWER, PORT, serving

from segue.cli.main import main
from segue.errors import UsageError
from segue.probe.exchange import PIECE, Upload

URL = f"http://127.0.0.1:{PORT}/"


@given(st.integers(1, 10_000_000), st.floats(0, 100))
def test_the_pieces_are_the_body(size: int, seconds: float) -> None:
    """None is empty or larger than is sent at once; together they are as long as was said."""
    upload = Upload(size, seconds)
    sizes = [len(upload.piece(left)) for left in range(upload.pieces, 0, -1)]
    assert sum(sizes) == size
    assert 0 < min(sizes) <= max(sizes) <= PIECE
    assert upload.every_s * upload.pieces == pytest.approx(seconds)


def test_an_upload_of_nothing_is_none() -> None:
    """Nor one of a negative time."""
    for size, seconds in ((0, 1.0), (5, -1.0)):
        with pytest.raises(UsageError, match="no upload"):
            Upload(size, seconds)


def body(sock: socket.socket, enough: int) -> int:
    """Read a request and so much of its body, as far as it comes; how much came."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1024)
    size = len(data.partition(b"\r\n\r\n")[2])
    while size < enough and (more := sock.recv(65536)):
        size += len(more)
    return size


@pytest.mark.root
def test_a_slow_body_arrives_whole(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes as long as was asked, and the response's limit does not count meanwhile."""
    sizes: list[int] = []

    def handle(sock: socket.socket, number: int) -> None:
        sizes.append(body(sock, 3_000_000))
        sock.sendall(ANSWER % b"1")

    with serving(handle):
        command = ["--upload", "3000000", "--upload-seconds", "1", "--concurrency", "3"]
        limits = ["--response-timeout", "0.6", "--count", "3", "--json"]
        assert main(["probe", URL, *command, *limits]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"ok": 3}
    assert sizes == [3_000_000] * 4
    assert report["p50_ms"] >= 990


@pytest.mark.root
def test_an_upload_that_is_cut_off_is_lost(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The server reads a part and goes; another answers before the end, which is an answer."""

    def handle(sock: socket.socket, number: int) -> None:
        body(sock, 1000)
        if number % 2:
            sock.sendall(ANSWER % b"1")

    with serving(handle):
        command = ["--upload", "10000", "--upload-seconds", "0.5", "--concurrency", "1"]
        assert main(["probe", URL, *command, "--count", "6", "--no-check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["ok"] == 3
    assert report["lost"] == 3
    assert set(report["counts"]) <= {"ok", "eof", "reset_after"}
