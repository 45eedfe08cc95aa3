"""deploy/ansible/restart.yml against two hosts: network namespaces with an instance each."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import PATIENCE

from segue.linux import netns

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.slow]
PLAYBOOK = ROOT / "deploy" / "ansible" / "restart.yml"
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
# What a release is: one file. The worker starts in the release's directory.
GOOD = (ROOT / "examples" / "asyncio_server.py").read_text()
# Shorter waits than a deployment would have.
SETTINGS = {"segue_instance": "t", "segue_steady": 0.5, "segue_settle": 1}
RELEASES = {
    "1": GOOD,
    "2": GOOD,
    "does-not-start": "raise SystemExit('no such database')\n",
    # It serves, and closes every tenth connection without a word.
    "loses": """
import itertools, signal, socket
listener, signals = socket.socket(fileno=3), signal.signal(signal.SIGTERM, lambda *_: exit())
for number in itertools.count(1):
    client = listener.accept()[0]
    if number % 10:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    client.close()
""",
}


@dataclass(frozen=True)
class Host:
    """One, with its releases, its link and its instance."""

    name: str
    directory: Path
    instance: Instance

    def release(self) -> str:
        """That of the link."""
        return (self.directory / "current").readlink().name

    def working(self) -> str:
        """The release of the generation that gets the connections."""
        status = self.instance.status()
        runs = {one["generation"]: one["resolved"] for one in status["generations"]}
        return Path(runs[status["working"]]).name

    def line(self) -> str:
        """What the inventory says of it."""
        return (
            f"{self.name} ansible_connection=local segue_link={self.directory}/current"
            f" releases={self.directory}/releases"
            f" ansible_python_interpreter={self.directory}/python"
            f" segue_program={self.directory}/segue"
        )


@contextlib.contextmanager
def host(name: str, above: Path) -> Iterator[Host]:
    """A namespace in which release 1 serves, and programs that enter it."""
    directory = above / name
    for release, text in RELEASES.items():
        (directory / "releases" / release).mkdir(parents=True)
        (directory / "releases" / release / "server.py").write_text(text)
    (directory / "current").symlink_to(directory / "releases" / "1")
    with netns.fresh() as inside:
        enter = f"nsenter --net=/proc/{os.getpid()}/fd/{inside}"
        command = (sys.executable, "-S", "-E", "server.py")
        flags = ("--chdir", str(directory / "current"))
        with Instance(directory, *flags, command=command, before=tuple(enter.split())) as one:
            for program, words in (("python", ""), ("segue", "-m segue")):
                file = directory / program
                file.write_text(
                    f"#!/bin/sh\nexport SEGUE_DIRECTORY={directory}/run\n"
                    f'exec {enter} {sys.executable} {words} "$@"\n'
                )
                file.chmod(0o755)
            one.wait_serving()
            yield Host(name, directory, one)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(host(f"host{n}", tmp_path)) for n in (1, 2)]


def deploy(fleet: list[Host], release: str) -> subprocess.CompletedProcess[str]:
    """The playbook with this release."""
    above = fleet[0].directory.parent
    (above / "hosts").write_text("\n".join(["[web]", *(one.line() for one in fleet), ""]))
    # A directory of each host's own, so a template.
    given = {"release": "{{ releases }}/" + release, **SETTINGS}
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(above / "ansible")}
    env["ANSIBLE_PIPELINING"] = "1"  # a module comes by its interpreter's input: no files
    return subprocess.run(
        [str(ANSIBLE), "-i", str(above / "hosts"), str(PLAYBOOK), "-e", json.dumps(given)],
        check=False, capture_output=True, text=True, timeout=5 * PATIENCE, env=env, cwd=above,
    )  # fmt: skip


def test_a_release_goes_host_by_host(fleet: list[Host]) -> None:
    """Every host serves the new one, one after another, and no request was lost."""
    done = deploy(fleet, "2")
    assert done.returncode == 0, done.stdout + done.stderr
    for one in fleet:
        assert (one.release(), one.working()) == ("2", "2")
    # A batch has one host: ten per cent of two.
    assert done.stdout.count("PLAY [Put a release into service]") == 2


@pytest.mark.parametrize(
    ("release", "word"), [("does-not-start", "no such database"), ("loses", "lost")]
)
def test_a_bad_release_stops_at_the_first_host(fleet: list[Host], release: str, word: str) -> None:
    """That host serves what it served, by its link too; the others were not touched."""
    done = deploy(fleet, release)
    assert done.returncode == 2, done.stdout + done.stderr
    assert word in done.stdout
    assert "host1 has the release that it had" in done.stdout
    for one in fleet:
        assert (one.release(), one.working()) == ("1", "1")
    assert [one.instance.status()["events"] for one in fleet[1:]] == [{"start": 1}]
