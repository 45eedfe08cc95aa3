"""What another user may do to an instance, and what Segue leaves to whoever runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_nobody
from tests.security.test_rights_live import PYTHON, place
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.usefixtures("netns")]
__all__ = ["place"]  # a fixture

SERVER = (PYTHON, "-S", "-E", str(ROOT / "examples" / "asyncio_server.py"))


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def write(path: Path) -> None:
    with open(path, "ab"):
        pass


TRIES: dict[str, Callable[[Path], object]] = {
    "list the directory": os.listdir,
    "make a file there": lambda run: write(run / "t.w2"),
    "ask": lambda run: connect(run / "t.sock"),
    "read the record": lambda run: (run / "t.json").read_bytes(),
    "write the record": lambda run: write(run / "t.json"),
    "write the lock": lambda run: write(run / "t.lock"),
    "write a worker's flag": lambda run: write(run / "t.w1"),
    "remove the socket": lambda run: os.unlink(run / "t.sock"),
}


def test_another_user_reaches_none_of_an_instances_files(place: Path) -> None:
    """Nor does a worker of another user: it reads its flag, and notifies."""
    os.rmdir(place / "run")
    with Instance(place, "--user", "nobody", command=SERVER) as one:
        one.wait_serving()

        def tried() -> str:
            allowed = []
            for what, attempt in TRIES.items():
                try:
                    attempt(place / "run")
                except PermissionError:
                    continue
                allowed.append(what)
            return str([allowed, list((place / "run" / "t.w1").read_bytes())])

        assert as_nobody(tried) == "[[], [0]]"


def test_the_environment_goes_to_workers(place: Path) -> None:
    """Whatever the supervisor was started with, a worker of another user has too."""
    command = ("sh", "-c", f"echo TOKEN is $TOKEN; exec {' '.join(SERVER)}")
    env = {"TOKEN": "mine"}
    with Instance(place, "--user", "nobody", command=command, env=env) as one:
        wait_until(lambda: "TOKEN is mine" in one.said(), "its word")


def test_raw_output_is_not_looked_at(place: Path) -> None:
    """With --output raw a terminal gets what a worker writes."""
    command = ("sh", "-c", r"printf 'a\033]0;b\007c'; exec " + " ".join(SERVER))
    with Instance(place, "--output", "raw", command=command) as one:
        wait_until(lambda: "a\x1b]0;b\x07c" in one.said(), "its word")


def test_python_reads_modules_where_it_is_started(place: Path) -> None:
    """With -m it imports from the current directory first; the command segue does not."""
    (place / "click.py").write_text("print('read')\n")
    script = Path(sys.executable).with_name("segue")
    for command, read in (((sys.executable, "-m", "segue"), True), ((str(script),), False)):
        done = subprocess.run(
            [*command, "--version"], cwd=place, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.stdout.startswith("read") is read
