"""Where instances keep their files, when another user was there first or comes in between."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_user

from segue.errors import UsageError
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.places import directory
from segue.supervisor.control.server import Control
from segue.supervisor.notify import Inbox

pytestmark = pytest.mark.root

SEA, SEB = 61001, 61002
CALLS = 30_000


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files that everybody may write to."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    monkeypatch.delenv("SEGUE_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    yield made
    shutil.rmtree(made)


def flip(path: Path, *targets: Path) -> None:
    """Make the path a link to each of these in turn, for good."""
    while True:
        for target in targets:
            os.symlink(target, f"{path}.next")
            os.rename(f"{path}.next", path)


def refusal() -> str:
    """Why there is no directory for this user."""
    with pytest.raises(UsageError) as refused:
        directory()
    return str(refused.value)


def called_often() -> int:
    """How many of so many calls were refused."""
    refused = 0
    for _ in range(CALLS):
        try:
            directory()
        except UsageError:
            refused += 1
    return refused


@pytest.mark.slow
def test_a_link_that_changes_opens_nobodys_directory(shared: Path) -> None:
    """Another user's link has the name, dangling now and leading to a private directory then:
    every call is refused, and the directory stays private.
    """
    private = shared / "private"
    private.mkdir(0o700)
    os.chown(private, SEB, SEB)
    child = os.fork()
    if child == 0:
        os.setresuid(SEA, SEA, SEA)
        flip(shared / f"segue-{SEB}", private, Path("/nowhere"))
    try:
        while not os.path.lexists(shared / f"segue-{SEB}"):
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        assert as_user(SEB, called_often) == CALLS
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.parametrize("target", ["private", "/nowhere"])
def test_a_link_of_another_user_is_refused_with_his_name(shared: Path, target: str) -> None:
    """Wherever it leads to, a directory of the victim's own too."""
    private = shared / "private"
    private.mkdir(0o700)
    os.chown(private, SEB, SEB)
    as_user(SEA, lambda: os.symlink(target, shared / f"segue-{SEB}"))

    assert "it is a link or a file of uid 61001" in as_user(SEB, refusal)


def test_the_fall_back_of_another_user_is_refused_with_his_name(shared: Path) -> None:
    """Who made /tmp/segue-UID cannot be told where this user's sockets are."""
    as_user(SEA, lambda: os.mkdir(shared / f"segue-{SEB}"))

    assert "it belongs to uid 61001" in as_user(SEB, refusal)
    assert "set SEGUE_DIRECTORY" in as_user(SEB, refusal)


def close(made: Control | Inbox) -> None:
    made.socket.close()


USES: dict[str, tuple[str, Callable[[Paths], object]]] = {
    "lock": ("t.lock", lambda paths: os.close(paths.lock())),
    "record": ("t.json.new", lambda paths: paths.write_record({"settings": 1})),
    "flag": ("t.w1", lambda paths: paths.write_flag(1, b"\0", 1)),
    "control": ("t.sock", lambda paths: close(Control(paths.control))),
    "inbox": ("t.notify", lambda paths: close(Inbox(paths.notify))),
    "end": ("t.json", lambda paths: paths.remove()),
}


@pytest.mark.parametrize("use", USES)
def test_a_directory_that_was_made_anew_by_another_user_is_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """A cleaner of /tmp took ours and another user was faster: nothing behind his links is
    written to, and nothing of his is removed.
    """
    monkeypatch.setenv("SEGUE_DIRECTORY", f"{shared}/ours")
    paths = Paths.of("t")
    os.rmdir(shared / "ours")
    victim = shared / "victim"
    victim.write_text("kept")
    victim.chmod(0o600)
    name, doing = USES[use]

    def plant() -> None:
        os.mkdir(shared / "ours", 0o755)
        os.symlink(victim, shared / "ours" / name)

    as_user(SEA, plant)
    with pytest.raises(UsageError, match="it belongs to uid 61001"):
        doing(paths)
    assert victim.read_text() == "kept"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert os.listdir(shared / "ours") == [name]
