"""Directories and files that somebody else could have put there: looked at once, by descriptor."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from segue.errors import UsageError
from segue.linux.openat import Directory, around, foreign, open_to_append, open_trusted

ME, ROOT, SEA = 1000, 0, 61001


def looks(uid: int, mode: int, gid: int = 7) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("uid", "mode", "why"),
    [
        (ME, 0o711, ""),
        (ROOT, 0o644, ""),
        (SEA, 0o700, "belongs to uid 61001"),
        (ME, 0o720, "may write"),
        (ME, 0o702, "may write"),
        (ROOT, 0o1777, "may write"),
    ],
)
def test_it_is_ours_when_nobody_else_could_change_it(uid: int, mode: int, why: str) -> None:
    """Its owner is one of those who are trusted, and nobody else may write to it."""
    said = foreign(looks(uid, mode), {ME, ROOT})
    assert why in said
    assert bool(why) == bool(said)


def test_a_private_group_is_as_good_as_its_user() -> None:
    """Its members may write, and nobody else may."""
    assert not foreign(looks(ME, 0o664), {ME}, {7})
    assert foreign(looks(ME, 0o664), {ME}, {8})
    assert foreign(looks(ME, 0o666), {ME}, {7})


def test_a_directory_has_the_mode_it_was_made_with(tmp_path: Path) -> None:
    """Whatever the umask; one that is there is left as it is."""
    before = os.umask(0o077)
    try:
        Directory.make(f"{tmp_path}/new", 0o711).close()
    finally:
        assert os.umask(before) == 0o077
    assert stat.S_IMODE(os.stat(f"{tmp_path}/new").st_mode) == 0o711
    os.chmod(f"{tmp_path}/new", 0o700)
    Directory.make(f"{tmp_path}/new", 0o711).close()
    assert stat.S_IMODE(os.stat(f"{tmp_path}/new").st_mode) == 0o700


def test_a_link_is_no_directory(tmp_path: Path) -> None:
    """Neither at the path itself, nor below a directory."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(UsageError, match=f"a link or a file of uid {os.geteuid()}"):
        Directory.open(f"{tmp_path}/link")
    with pytest.raises(UsageError, match="a link or a file"):
        Directory.make(f"{tmp_path}/link", 0o700)
    with Directory.open(str(tmp_path)) as here, pytest.raises(UsageError, match="a link or a"):
        here.below("link")


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Also when the mode is the only thing that is wrong with it."""
    tmp_path.chmod(0o770)
    with pytest.raises(UsageError, match=r"is not used: its group or others may write to it"):
        Directory.open(str(tmp_path))


def test_files_are_those_of_the_directory_that_was_opened(tmp_path: Path) -> None:
    """What has its path later is nobody's business; a link in it is not followed."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").write_text("theirs")
    with around(f"{tmp_path}/one/file") as (here, name):
        (tmp_path / "one").rename(tmp_path / "moved")
        (tmp_path / "one").symlink_to("/nowhere")
        os.close(here.file(name, os.O_WRONLY | os.O_CREAT))
        here.rename(name, "kept")
        (tmp_path / "moved" / "link").symlink_to("../other")
        with pytest.raises(OSError, match="link"):
            here.file("link", os.O_WRONLY | os.O_TRUNC)
        assert here.names() == ["kept", "link"]
        assert here.holds("link")
        here.unlink("link")
        here.unlink("link")
    assert os.listdir(tmp_path / "moved") == ["kept"]
    assert (tmp_path / "other").read_text() == "theirs"


def test_a_socket_takes_the_place_of_what_has_its_name(tmp_path: Path) -> None:
    """With the mode that was asked for, whatever the umask."""
    (tmp_path / "door").write_text("stale")
    with socket.socket(socket.AF_UNIX) as door, Directory.open(str(tmp_path)) as here:
        here.bind(door, "door", 0o666)
        found = (tmp_path / "door").stat().st_mode
        assert (stat.S_ISSOCK(found), stat.S_IMODE(found)) == (True, 0o666)


def test_a_file_that_others_may_write_to_is_not_read(tmp_path: Path) -> None:
    """Nor is a FIFO waited for, which nobody need ever write to."""
    (tmp_path / "good").write_text("x")
    os.chmod(tmp_path / "good", 0o644)
    (tmp_path / "link").symlink_to("good")
    for name in ("good", "link"):
        with open(open_trusted(f"{tmp_path}/{name}"), encoding="ascii") as file:
            assert file.read() == "x"
    os.mkfifo(tmp_path / "pipe")
    for name in ("good", "pipe"):
        os.chmod(tmp_path / name, 0o646)
        with pytest.raises(UsageError, match="keeps others from writing to it"):
            open_trusted(f"{tmp_path}/{name}")


@pytest.mark.root
@pytest.mark.parametrize("planted", ["file", "link"])
def test_what_another_user_made_is_not_read(tmp_path: Path, planted: str) -> None:
    """Whose it is is said; of a link, who made the link."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.chown(tmp_path / planted, SEA, SEA, follow_symlinks=False)
    with pytest.raises(UsageError, match="it belongs to uid 61001"):
        open_trusted(f"{tmp_path}/{planted}")


def test_a_log_is_made_with_its_mode_and_appended_to(tmp_path: Path) -> None:
    """Whatever the umask; what is in it stays."""
    log = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        descriptor = open_to_append(str(log), {os.geteuid()}, 0o640)
        os.write(descriptor, text)
        os.close(descriptor)
    assert log.read_bytes() == b"one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("trap", ["link", "another name", "fifo", "owner"])
def test_a_log_in_a_foreign_directory_is_no_trap(tmp_path: Path, trap: str) -> None:
    """A link, another user's file by another name, a pipe that holds us up, a foreign file."""
    log, target, trusted = tmp_path / "log", tmp_path / "target", {os.geteuid()}
    target.write_text("kept")
    if trap == "link":
        log.symlink_to(target)
    elif trap == "another name":
        log.hardlink_to(target)
    elif trap == "fifo":
        os.mkfifo(log)
    else:
        log, trusted = target, {os.geteuid() + 1}
    with pytest.raises((UsageError, OSError)):
        open_to_append(str(log), trusted, 0o640)
    assert target.read_text() == "kept"
