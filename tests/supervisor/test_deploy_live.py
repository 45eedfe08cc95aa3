"""Deploys that switch a link: the release that a worker starts in is the one of the moment."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE, wait_until

from segue.linux import pidfd

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# Answers its release, PWD and a variable to each connection.
SERVER = """
import os, signal, socket, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
text = f"{Path('VERSION').read_text()} {os.environ['PWD']} {os.environ.get('COLOUR', '-')}"
listener = socket.socket(fileno=3)
while True:
    one, _ = listener.accept()
    one.sendall(text.encode())
    one.close()
"""
COMMAND = (sys.executable, "-S", "-E", "server.py")


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """A link to the first of two releases."""
    for name in ("one", "two"):
        release(tmp_path, name)
    link = tmp_path / "current"
    link.symlink_to("releases/one")
    return link


def release(where: Path, name: str) -> Path:
    path = where / "releases" / name
    path.mkdir(parents=True)
    (path / "VERSION").write_text(name)
    (path / "server.py").write_text(SERVER)
    return path


def deploy(link: Path, name: str) -> None:
    """Switch the link, as deploys do."""
    new = link.with_name("new")
    new.symlink_to(f"releases/{name}")
    new.rename(link)


def answer() -> list[str]:
    """The words of one worker."""
    with socket.create_connection(("127.0.0.1", 8080), PATIENCE) as one:
        text = b""
        while more := one.recv(4096):
            text += more
    return text.decode().split()


def started(tmp_path: Path, current: Path, *flags: str) -> Instance:
    return Instance(tmp_path, *flags, command=COMMAND, cwd=current)


def crash(one: Instance) -> None:
    """Kill a worker that serves, and wait until it is gone."""
    pid = int(one.workers("serving")[0]["pid"])
    holder = os.pidfd_open(pid)
    signal.pidfd_send_signal(holder, signal.SIGKILL)
    wait_until(lambda: pidfd.ended(holder), "its end")
    os.close(holder)


def test_a_restart_starts_what_the_link_leads_to_now(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """New code is served after a deploy and a restart, and PWD is the name with the link in it."""
    with started(tmp_path, current) as one:
        one.wait_serving()
        assert answer() == ["one", str(current), "-"]
        deploy(current, "two")
        assert one.ask("restart")["exit"] == 0
        assert answer() == ["two", str(current), "-"]


def test_new_code_knows_the_name_and_its_settings(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """New code reads the segue.toml of the new release, and a restart starts that release."""
    with started(tmp_path, current) as one:
        one.wait_serving()
        deploy(current, "two")
        (tmp_path / "releases/two/segue.toml").write_text("workers = 2\n")
        assert one.status()["settings_changed"].endswith("segue reexec reads it")
        assert one.ask("reexec") == {"exit": 0}
        one.wait_serving(1, 2)
        assert one.status()["settings_changed"] == ""
        deploy(current, "one")
        assert one.ask("restart")["exit"] == 0
        assert answer()[0] == "one"


def test_a_release_that_is_gone_is_said_and_the_service_goes_on(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """Newcomers are given up with the sentence; a crash is mended as soon as the name leads on."""
    with started(tmp_path, current, "--workers", "2", "--crash-limit", "2") as one:
        one.wait_serving(1, 2)
        shutil.rmtree(tmp_path / "releases/one")
        gone = f"workers start in {current}, which is gone ({current} is a link to releases/one)"
        refused = one.ask("restart")
        assert refused["exit"] == 3
        assert gone in refused["error"]
        assert answer()[0] == "one"
        crash(one)
        wait_until(lambda: "no worker can be started until this is mended" in one.said(), "said")
        crash(one)
        refused = one.ask("reexec")
        assert refused["exit"] != 0
        assert gone in refused["error"]
        deploy(current, "two")
        one.wait_serving(1, 2)
        assert answer()[0] == "two"
        assert one.said().count("no worker can be started until this is mended") == 1


def test_a_restart_that_goes_back_starts_the_release_of_before(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """In steps: the second worker of the new release fails, and the link leads to it still."""
    with started(tmp_path, current, "--workers", "2") as one:
        one.wait_serving(1, 2)
        (tmp_path / "releases/two/server.py").write_text(
            f"import os\nos.link(__file__, '{tmp_path}/first')\n{SERVER}"
        )
        deploy(current, "two")
        refused = one.ask("restart", step=1)
        assert refused["exit"] == 3
        assert "FileExistsError" in refused["error"]
        one.wait_serving(1, 2)
        assert {answer()[0] for _ in range(20)} == {"one"}
        assert f"starts in {tmp_path}/releases/one, as others of its generation" in one.said()


def test_a_restart_brings_what_the_file_of_variables_says_now(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """A bad line gives newcomers up; the working generation keeps what it has."""
    file = tmp_path / "env"
    file.write_text("COLOUR=red\n")
    with started(tmp_path, current, "--env-file", str(file)) as one:
        one.wait_serving()
        assert answer()[2] == "red"
        file.write_text("# changed\nCOLOUR='blue'\n")
        assert one.ask("restart")["exit"] == 0
        assert answer()[2] == "blue"
        file.write_text("COLOUR\n")
        refused = one.ask("restart")
        assert refused["exit"] == 3
        assert f"{file}, line 1: this is not NAME=VALUE" in refused["error"]
        assert answer()[2] == "blue"


def test_chdir_is_relative_to_the_file_that_names_it(
    netns: int, tmp_path: Path, current: Path
) -> None:
    """The flag is relative to the directory of the start, the setting to its file."""
    file = tmp_path / "segue.toml"
    file.write_text('chdir = "current"\n')
    with Instance(tmp_path, "--config", "../../segue.toml", command=COMMAND, cwd=current) as one:
        one.wait_serving()
        assert answer()[:2] == ["one", f"{current}/../../current"]
