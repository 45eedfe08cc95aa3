"""TLS: whose certificate was presented until when, and what a handshake can come to."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.probe.servers import ANSWER, PORT, certificate, misbehaving, secure, serving

from segue.cli.main import main
from segue.probe.tls import options

URL = f"https://127.0.0.1:{PORT}/"

pytestmark = [pytest.mark.root, pytest.mark.program("openssl")]


def probed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["probe", URL, "--concurrency", "1", "--json", *args]) == 0
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return report


def fingerprint(file: Path) -> str:
    begin = "-----BEGIN CERT"
    pem = begin + file.read_text().partition(begin)[2]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()[:32]


def test_the_last_handshake_with_the_old_certificate_is_known(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each certificate by its fingerprint, counted, and when it was met first and last."""
    old, new = certificate(tmp_path, "old"), certificate(tmp_path, "new")
    with serving(secure(old, new, change_at=10)):
        report = probed(capsys, "--count", "30", "--insecure", "--no-check")
    assert report["counts"] == {"ok": 30}
    assert report["certificates"] == {fingerprint(old): 10, fingerprint(new): 20}
    times = report["certificate_times"]
    assert times[fingerprint(old)][1] < times[fingerprint(new)][0]


def test_an_authority_of_ones_own_is_trusted(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--ca FILE, with the name checked; and without it the certificate is refused."""
    file = certificate(tmp_path, "own")
    with serving(secure(file)):
        report = probed(capsys, "--count", "5", "--ca", str(file), "--version-from",
                        "header:x-generation")  # fmt: skip
        assert report["versions"] == {"old": 5}
        assert main(["probe", URL]) == 1
    said = capsys.readouterr().err
    assert "the certificate is not accepted: self-signed certificate" in said
    assert "--insecure" in said


def test_handshakes_that_fail_are_fates_of_their_own(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No TLS, an end or a reset within the handshake, a server that hangs in it."""
    count = ["--count", "6", "--no-check"]
    with misbehaving("reset_at_once"):
        assert probed(capsys, *count)["counts"] == {"reset_before": 6}

    def end(sock: socket.socket, number: int) -> None:
        sock.recv(9000)

    with serving(end):
        assert probed(capsys, *count)["counts"] == {"eof": 6}
    with serving(lambda sock, _: sock.sendall(b"220 mail.example\r\n")):
        assert probed(capsys, *count)["counts"] == {"tls_failed": 6}

    def hang(sock: socket.socket, number: int) -> None:
        while sock.recv(9000):
            pass

    with serving(hang):
        report = probed(capsys, *count, "--response-timeout", "0.1")
    assert report["counts"] == {"response_timeout": 6}


def test_half_an_answer_over_tls_is_told(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the handshake the fates are those of HTTP in the clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "own"))

    def half(sock: socket.socket, number: int) -> None:
        with context.wrap_socket(sock, server_side=True) as stream:
            stream.recv(4096)
            stream.sendall((ANSWER % b"x")[:-1])

    with serving(half):
        report = probed(capsys, "--count", "4", "--insecure", "--no-check")
    assert report["counts"] == {"partial": 4}


def test_a_close_announced_in_tls_instead_of_an_answer_is_an_end(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """close_notify and FIN, as of a server that stops: nothing more will come, and it is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "own"))

    def silent(sock: socket.socket, number: int) -> None:
        with context.wrap_socket(sock, server_side=True) as stream:
            stream.recv(4096)
            stream.setblocking(False)
            with suppress(ssl.SSLWantReadError):
                stream.unwrap()

    with serving(silent):
        report = probed(capsys, "--count", "4", "--insecure", "--no-check")
    assert report["counts"] == {"eof": 4}


def test_kept_connections_and_large_answers_over_tls(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Many records in one segment are all read, and one handshake serves many requests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "own"))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

    def kept(sock: socket.socket, number: int) -> None:
        with context.wrap_socket(sock, server_side=True) as stream:
            while stream.recv(4096):
                stream.sendall(head)
                for _ in range(1000):
                    stream.sendall(bytes(100))

    with serving(kept):
        command = ["probe", URL, "--keep-alive", "2", "--interval", "0.05", "--count", "20"]
        assert main([*command, "--insecure", "--json", "--no-check"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"ok": 20}
    assert sum(report["certificates"].values()) == 2


def test_a_context_of_ones_own_checks_the_name() -> None:
    """Insecure is the only way not to check."""
    assert options("example.org").context.check_hostname
    assert not options("example.org", insecure=True).context.check_hostname
