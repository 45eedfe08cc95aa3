"""Whatever is read has a limit, and whatever is no number is refused in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segue.cli.main import main
from segue.engine import policies
from segue.errors import SegueError, UsageError
from segue.linux import proc
from segue.supervisor.control.paths import Paths
from segue.supervisor.settings import parse_toml, read_file

MANY = "9" * 5000

RUN = ("run", "--bind", "127.0.0.1:8080", "--check")


@pytest.mark.parametrize(
    "args",
    [
        ("adopt", MANY),
        ("audit", f"127.0.0.1:{MANY}"),
        ("run", "--bind", f"127.0.0.1:{MANY}", "--check", "--", "true"),
        (*RUN, "--user", "\u00b2", "--", "true"),
        (*RUN, "--user", MANY, "--", "true"),
        (*RUN, "--group", "\u00b2", "--", "true"),
        (*RUN, "--stop-signal", MANY, "--", "true"),
        ("probe", f"127.0.0.1:{MANY}"),
        ("weights", f"{MANY}=1"),
    ],
    ids=lambda args: " ".join(args)[:60],
)
def test_a_number_too_long_is_usage(args: tuple[str, ...]) -> None:
    """Digits of other scripts and five thousand of ours: exit code 2, no traceback."""
    assert main(args) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"workers = \xff", "is not TOML"),
        (b"workers = " + b"9" * 5000, "is not TOML"),
        (b"env = " + b"[" * 50_000, "is not TOML"),
        (b"name = '" + b"x" * (2 << 20) + b"'", "bytes"),
        (b"workers = nan", "a whole number"),
        (b"\x00", "is not TOML"),
    ],
    ids=["UTF-8", "digits", "depth", "length", "nan", "NUL"],
)
def test_a_file_of_settings_that_makes_no_sense(tmp_path: Path, text: bytes, said: str) -> None:
    """The error names the file."""
    path = tmp_path / "segue.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=said) as found:
        parse_toml(str(path), read_file(str(path)))
    assert str(path) in str(found.value)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff", b'{"a": ' + b"9" * 5000 + b"}", b""])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: bytes) -> None:
    """A next supervisor starts anew then, and does not end with a traceback."""
    paths = Paths(str(tmp_path / "t"))
    Path(paths.record).write_bytes(text)
    assert paths.read_record() is None


def test_a_lock_that_holds_no_number_is_told_all_the_same(tmp_path: Path) -> None:
    """Whoever holds it may have written anything."""
    paths = Paths(str(tmp_path / "t"))
    lock = paths.lock()
    os.pwrite(lock, b"\xff\xfe", 0)
    with pytest.raises(SegueError, match="already running"):
        paths.lock()
    os.close(lock)


def test_files_of_proc_are_read_to_a_limit(tmp_path: Path) -> None:
    """A process may call any of its memory its arguments (PR_SET_MM)."""
    path = tmp_path / "cmdline"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    assert len(proc._read(str(path), 1 << 20)) == 1 << 20
    assert len(proc._read(str(path))) == 1 << 25
    path.write_bytes(b"short")
    assert proc._read(str(path)) == b"short"


def test_a_policy_of_two_mebibytes_is_none(tmp_path: Path) -> None:
    """It is refused by its size, before anything of it is run."""
    path = tmp_path / "policy.py"
    path.write_bytes(b"raise SystemExit\n" + b"#" * (2 << 20))
    with pytest.raises(UsageError, match="as no policy has"):
        policies.find(f"{path}:one")
