"""Requests behind one another: which are lost when the connection ends, and which go again."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.probe.faults import KEPT, LINGER_0, WHOLE
from tests.probe.servers import PORT, serving

from segue.cli.main import main

URL = f"http://127.0.0.1:{PORT}/"
END = b"\r\n\r\n"

pytestmark = pytest.mark.root


class Requests:
    """Takes requests off connections and counts them, over all threads."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def take(self, sock: socket.socket, number: int) -> bool:
        """Wait for so many requests without a body; False at the end of the connection."""
        data = b""
        while data.count(END) < number:
            more = sock.recv(65536)
            if not more:
                return False
            data += more
        with self._lock:
            self.count += data.count(END)
        return True


def probe(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["probe", URL, "--no-check", "--json", "--keep-alive", *args]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_answers_that_come_together_are_told_apart(
    netns: int, capsys: pytest.CaptureFixture[str], piece: int
) -> None:
    """However the bytes are cut: five requests at once have five answers, on one connection."""
    requests = Requests()

    def answer(sock: socket.socket, number: int) -> None:
        assert number == 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while requests.take(sock, 5):
            data = KEPT * 5
            for at in range(0, len(data), piece):
                sock.send(data[at : at + piece])

    with serving(answer):
        result = probe(capsys, "1", "--pipeline", "5", "--interval", "0.02", "--count", "20")
    assert result["counts"] == {"ok": 20}
    assert requests.count == 20
    assert result["most_open"] == 1


def end_by_close(sock: socket.socket) -> None:
    sock.sendall(KEPT * 2)


def end_by_reset(sock: socket.socket) -> None:
    sock.sendall(KEPT * 2 + KEPT[:-1])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)


def end_by_nonsense(sock: socket.socket) -> None:
    sock.sendall(KEPT * 2 + b"220 mail.example ESMTP\r\n")


def end_never(sock: socket.socket) -> None:
    sock.sendall(KEPT * 2)
    assert not sock.recv(1)


@pytest.mark.parametrize(
    ("end", "fates"),
    [
        (end_by_close, {"eof": 3}),
        (end_by_reset, {"partial": 1, "reset_after": 2}),
        (end_by_nonsense, {"malformed": 3}),
        (end_never, {"response_timeout": 3}),
    ],
)
def test_what_was_written_and_not_answered_is_lost(
    netns: int,
    capsys: pytest.CaptureFixture[str],
    end: Callable[[socket.socket], None],
    fates: dict[str, int],
) -> None:
    """Two of five are answered; each of the others has the fate of its own evidence."""
    requests = Requests()

    def answer(sock: socket.socket, number: int) -> None:
        if requests.take(sock, 5):
            end(sock)

    with serving(answer):
        args = ["--pipeline", "5", "--count", "20", "--interval", "0.05"]
        result = probe(capsys, "2", *args, "--response-timeout", "1")
    assert requests.count == 20
    assert result["counts"] == {"ok": 8} | {name: 4 * count for name, count in fates.items()}
    assert result["lost"] == 12
    assert result["repeated"] == 0


def test_behind_an_announced_close_nothing_is_lost(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server answers two and says close with the second: the others go again, and are served.

    It waits for all that was written, or its close would be a reset that takes answers away.
    """
    wrote: Counter[int] = Counter()

    def answer(sock: socket.socket, number: int) -> None:
        data = b""
        while not data.endswith(END) or data.count(END) < min(5 - 2 * number, 5):
            data += sock.recv(65536)
        wrote[number] = data.count(END)
        sock.sendall((KEPT + WHOLE) if wrote[number] > 1 else WHOLE)

    with serving(answer):
        result = probe(capsys, "1", "--pipeline", "5", "--count", "5")
    assert result["counts"] == {"ok": 5}
    assert dict(wrote) == {0: 5, 1: 3, 2: 1}
    assert result["repeated"] == 3 + 1


def test_an_upload_that_was_not_begun_goes_again(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three large bodies, and a server that closes after the first.

    The second was being written and is lost; of the third nobody has a byte, so it goes again and
    is answered.
    """
    size = 16_000_000
    methods = []

    def answer(sock: socket.socket, number: int) -> None:
        file = sock.makefile("rb")
        methods.append(file.readline().split()[0])
        while file.readline() != b"\r\n":
            pass
        assert len(file.read(size)) == size
        sock.sendall(KEPT)
        if len(methods) == 1:
            assert file.readline()  # of the second, whose body stays unread
        file.close()

    with serving(answer):
        args = ["--pipeline", "3", "--count", "3", "--upload", str(size)]
        result = probe(capsys, "1", *args)
    assert methods == [b"PUT", b"PUT"]
    assert result["repeated"] == 1
    assert result["counts"]["ok"] == 2
    assert result["lost"] == 1


def test_an_answer_that_came_before_the_reset_counts(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that will not take a body answers, and closes while it is still being written."""

    def answer(sock: socket.socket, number: int) -> None:
        file = sock.makefile("rb")
        while file.readline() != b"\r\n":
            pass
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        file.close()

    with serving(answer):
        result = probe(capsys, "1", "--count", "5", "--upload", "16000000")
    assert (result["counts"], result["lost"]) == ({"ok": 5}, 0)
    assert result["statuses"] == {"413": 5}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([URL, "--pipeline", "3"], "needs --keep-alive"),
        (["127.0.0.1:1", "--keep-alive", "1", "--pipeline", "3"], "and an http or https URL"),
        ([URL, "--keep-alive", "1", "--pipeline", "0"], "between 1 and 1000 (got 0)"),
        ([URL, "--keep-alive", "1", "--pipeline", "1001"], "between 1 and 1000 (got 1001)"),
        ([URL, "--websocket", "1", "--pipeline", "2"], "needs --keep-alive"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], args: list[str], sentence: str
) -> None:
    """Before anything is opened."""
    assert main(["probe", *args]) == 2
    assert sentence in capsys.readouterr().err
