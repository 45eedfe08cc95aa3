"""Files that decide what is done with the rights of whoever reads them."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.bpf.objects import GOLDEN
from tests.linux.unprivileged import as_user
from tests.supervisor.instance import ROOT, Instance

from segue.engine import object as objects
from segue.engine import policies
from segue.errors import UsageError
from segue.supervisor.settings import read_file

pytestmark = pytest.mark.root

SEA = 61001
POLICY = """
from pathlib import Path
from segue import policy

Path(__file__ + ".ran").touch()

@policy
def f(conn, group):
    return group.table.select(conn.hash)
"""
READERS: dict[str, Callable[[str], object]] = {
    "segue.toml": read_file,
    "policy.py": lambda path: policies.find(f"{path}:f"),
    "policy.o": objects.read,
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One of each kind, as it should be."""
    (tmp_path / "segue.toml").write_text("workers = 2\n")
    (tmp_path / "policy.py").write_text(POLICY)
    shutil.copy(GOLDEN / "table.bpf.o", tmp_path / "policy.o")
    for name in READERS:
        (tmp_path / name).chmod(0o644)
    return tmp_path


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may write to."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_roots_is_read(files: Path, name: str) -> None:
    """By a link of root's, too; and again after it has changed."""
    (files / "link").symlink_to(name)
    for path in (files / name, files / "link", files / name):
        READERS[name](str(path))


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_user_is_not(files: Path, name: str) -> None:
    """Whose it is is said, and what whoever trusts it may do; nothing of it is run."""
    os.chown(files / name, SEA, SEA)
    said = f"{name} is not used: it belongs to uid 61001.*; run segue as its owner, or use a copy"
    with pytest.raises(UsageError, match=said):
        READERS[name](str(files / name))
    assert not (files / "policy.py.ran").exists()


def test_another_users_link_to_a_file_of_roots_is_not(files: Path) -> None:
    """Who made the link chose the file."""
    (files / "link").symlink_to("segue.toml")
    os.chown(files / "link", SEA, SEA, follow_symlinks=False)
    with pytest.raises(UsageError, match=r"belongs to uid 61001.*; name the file itself"):
        read_file(str(files / "link"))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_to_is_not(files: Path, name: str, mode: int) -> None:
    """Nor is what they write run."""
    (files / name).chmod(mode)
    with pytest.raises(UsageError, match=r"its group or others may write to it.*; chmod go-w "):
        READERS[name](str(files / name))
    assert not (files / "policy.py.ran").exists()


def test_a_users_own_group_may_write(shared: Path) -> None:
    """Many systems give each user one, and a umask that lets it write: uid 1 is such a user."""
    name = shared / "segue.toml"

    def written() -> object:
        name.write_text("workers = 2\n")
        name.chmod(0o664)
        return read_file(str(name)).decode()

    assert pwd.getpwuid(1).pw_name == grp.getgrgid(1).gr_name
    assert as_user(1, written) == "workers = 2\n"


def test_nothing_is_read_without_settings(files: Path) -> None:
    """Everybody may write to /dev/null, and it still says nothing."""
    assert read_file("/dev/null") == b""


@pytest.mark.parametrize("flags", [(), ("--config", "segue.toml")])
def test_root_runs_nobodys_policy(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """In a directory of everybody's there is another user's segue.toml, which names his policy:
    whether root knows of it or not, it is refused.
    """
    tmp_path.chmod(0o1777)
    (tmp_path / "evil.py").write_text(POLICY)
    (tmp_path / "segue.toml").write_text(f'policy = "{tmp_path}/evil.py:f"\n')
    os.chown(tmp_path / "segue.toml", SEA, SEA)
    done = subprocess.run(
        [sys.executable, "-m", "segue", "run", "--check", *flags, "--bind", ":1", "--", "true"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (done.returncode, "segue.toml is not used" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "evil.py.ran").exists()


@pytest.mark.kernel("5.14")
def test_which_settings_were_read_is_said(netns: int, tmp_path: Path) -> None:
    """At the start, before anything that they ask for."""
    (tmp_path / "segue.toml").write_text("workers = 2\n")
    with Instance(tmp_path, "--config", str(tmp_path / "segue.toml")) as one:
        one.wait_serving(workers=2)
        assert f"settings are read from {tmp_path}/segue.toml" in one.said().splitlines()[0]
