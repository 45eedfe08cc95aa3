"""Pins where everybody may make directories, as a bpf file system is mounted by default."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import PLAIN
from tests.supervisor.instance import ROOT
from tests.waiting import wait_until

from segue.engine.migrate import Migrate
from segue.engine.pinning import Pins
from segue.errors import KernelError, UsageError

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]

SEA = 61001
ROOM = """
mount -t tmpfs -o mode=755 tmpfs /run
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo
exec cat
"""
SEGUE = shlex.join((sys.executable, "-m", "segue"))


@pytest.fixture
def important(tmp_path: Path) -> Iterator[Path]:
    """A directory of three files, which it still has at the end."""
    made = tmp_path / "important"
    made.mkdir(0o700)
    for name in "abc":
        (made / name).touch()
    yield made
    assert sorted(os.listdir(made)) == ["a", "b", "c"]


def pin(pins: Pins) -> None:
    with Migrate() as steering:
        pins.pin(steering)


USES: dict[str, Callable[[Pins], object]] = {
    "pin": pin, "look": Pins.there, "open": Pins.open, "table": Pins.table, "remove": Pins.remove,
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_pins_are_never_in_another_users_directory(
    bpf_directory: str, important: Path, use: str
) -> None:
    """Whoever was first is named, and nothing is deleted behind his links."""
    above = f"{bpf_directory}/segue"
    os.mkdir(above, 0o755)
    for name in ("t", ":t", "t:new"):
        os.symlink(important, f"{above}/{name}")
    os.chown(above, SEA, SEA)
    with pytest.raises(UsageError, match=r"it belongs to uid 61001.*mode=0700"):
        USES[use](Pins("t", bpf_directory))


ON_THE_WAY = [
    *[("segue", use) for use in USES],
    *[("segue/t", use) for use in USES if use != "pin"],
    ("segue/:t", "pin"),
]


@pytest.mark.parametrize(("name", "use"), ON_THE_WAY)
def test_pins_are_never_behind_a_link(
    bpf_directory: str, important: Path, name: str, use: str
) -> None:
    """Wherever on the way it is, and whoever made it."""
    if "/" in name:
        os.mkdir(f"{bpf_directory}/segue", 0o700)
    os.symlink(important, f"{bpf_directory}/{name}")
    with pytest.raises(UsageError, match="is a link"):
        USES[use](Pins("t", bpf_directory))


def test_pins_do_not_take_the_place_of_a_link(bpf_directory: str, important: Path) -> None:
    """What has the name stays, and it is said that nothing was pinned."""
    os.mkdir(f"{bpf_directory}/segue", 0o700)
    os.symlink(important, f"{bpf_directory}/segue/t")
    with pytest.raises(KernelError, match="pinning to"):
        pin(Pins("t", bpf_directory))
    assert os.readlink(f"{bpf_directory}/segue/t") == str(important)


class Room:
    """A mount and network namespace with a /run and a bpf file system of its own."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "sh", "-ec", ROOM],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n"

    def inside(self, script: str, uid: int = 0) -> list[str]:
        """The command that runs this in it, as that user."""
        who = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups") if uid else ()
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", *who, "sh", "-c", script]

    def run(self, script: str, uid: int = 0) -> tuple[int, str]:
        """Its exit code and all that it said."""
        done = subprocess.run(
            self.inside(script, uid), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def close(self) -> None:
        self._holder.communicate()


@pytest.fixture
def room() -> Iterator[Room]:
    with contextlib.closing(Room()) as made:
        yield made


@pytest.fixture
def served(room: Room) -> Iterator[None]:
    """Two servers listen at 127.0.0.1:8080 in it."""
    argv = room.inside(f"exec {shlex.join(PLAIN)} 127.0.0.1 8080")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            one = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
            stack.callback(one.kill)
        wait_until(lambda: room.run("ss -Htln")[1].count("127.0.0.1:8080") == 2, "both")
        yield


@pytest.mark.slow
@pytest.mark.program("unshare")
@pytest.mark.program("nsenter")
@pytest.mark.program("setpriv")
@pytest.mark.parametrize("verb", ["attach", "rescue"])
def test_root_deletes_nothing_for_another_user(room: Room, served: None, verb: str) -> None:
    """With the links where root's command is going to look: refused, and every file stays."""
    room.run("mkdir -m 700 /run/important; touch /run/important/a /run/important/b")
    code, said = room.run(
        "mkdir /sys/fs/bpf/segue; cd /sys/fs/bpf/segue; for name in web web:new :web; do"
        " ln -s /run/important $name; done",
        SEA,
    )
    assert (code, said) == (0, "")
    code, said = room.run(f"timeout 30 {SEGUE} {verb} 127.0.0.1:8080 --name web")
    assert (code, "it belongs to uid 61001" in said) == (2, True), said
    assert room.run("ls /run/important") == (0, "a\nb\n")
