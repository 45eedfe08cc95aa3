"""Which run of a server a process belongs to, by each rule."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import UsageError
from segue.linux import proc
from segue.observe.origin import Rule

WAIT = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, with a release in its environment and its arguments."""
    argv = [sys.executable, "-S", "-E", "-c", WAIT, "--release=7"]
    env = {"RELEASE": "v7", "INVOCATION_ID": "0123abcd"}
    with subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        # Popen returns in the middle of execve, before the new environment can be read.
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def test_by_start_a_whole_process_group_is_one_run(child: subprocess.Popen[bytes]) -> None:
    """A worker started now belongs to when its server was; the key is its group."""
    rule = Rule.parse("start")
    here = rule.origin([os.getpid()])
    there = rule.origin([child.pid])
    assert here is not None
    assert there is not None
    assert here.key == str(os.getpgid(0))
    assert there.key == str(child.pid)
    assert there.started == proc.start_seconds(child.pid)
    leader = proc.start_seconds(os.getpgid(0))
    assert here.started == (leader or proc.start_seconds(os.getpid()))


def test_by_process_each_start_counts(child: subprocess.Popen[bytes]) -> None:
    """A worker that a reload started is no part of what its server was before."""
    rule = Rule.parse("process")
    assert rule.by_start
    for pid in (os.getpid(), child.pid):
        origin = rule.origin([pid])
        assert origin is not None
        assert (origin.key, origin.started) == (str(pid), proc.start_seconds(pid))


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("env:RELEASE", "v7"),
        ("env:NO_SUCH", ""),
        (r"command:--release=(\d+)", "7"),
        ("command:--release", "--release"),
        ("command:nonsense", ""),
        ("none", ""),
    ],
)
def test_a_mark_is_read(child: subprocess.Popen[bytes], rule: str, key: str) -> None:
    """From the environment it was started with, or from its command line."""
    origin = Rule.parse(rule).origin([child.pid])
    assert origin is not None
    assert origin.key == key


def test_a_file_is_the_very_file(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Program and directory by inode, so that a new one under the old name is another."""
    for rule, path in (("exe", Path(f"/proc/{child.pid}/exe")), ("cwd", tmp_path)):
        origin = Rule.parse(rule).origin([child.pid])
        assert origin is not None
        assert origin.key.endswith(f":{path.stat().st_ino}")


def test_the_youngest_owner_decides(child: subprocess.Popen[bytes]) -> None:
    """Whoever bound for its workers has the listener as well, and longer."""
    rule = Rule.parse("env:RELEASE")
    origin = rule.origin([os.getpid(), child.pid])
    assert origin is not None
    assert origin.key == "v7"


def test_nobody_has_no_origin() -> None:
    """Owners that are gone, or none."""
    assert Rule.parse("start").origin([]) is None
    assert Rule.parse("start").origin([2**22]) is None


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/system.slice/web.service", "web.service 0123abcd"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/run-7.scope", "run-7.scope 0123abcd"),
        (f"/docker/{'ab' * 32}", "ab" * 32),
        (f"/kubepods.slice/cri-containerd-{'cd' * 32}.scope", "cd" * 32),
        ("/", "/"),
    ],
)
def test_a_unit_is_named_by_its_control_group(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, path: str, key: str
) -> None:
    """The container, else the unit and which start of it this is, else the path itself."""
    monkeypatch.setattr(proc, "control_group", lambda _: path)
    origin = Rule.parse("unit").origin([child.pid])
    assert origin is not None
    assert origin.key == key


@pytest.mark.parametrize("text", ["", "age", "env:", "env", "command:", "command:(", "start:5"])
def test_nonsense_is_refused(text: str) -> None:
    """With what could be written."""
    with pytest.raises(UsageError):
        Rule.parse(text)
