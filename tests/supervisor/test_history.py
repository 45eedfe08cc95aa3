"""The file of a history: bounded, and read whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.cli.main import main
from segue.supervisor.control import history
from segue.supervisor.control.history import MOST, History, read
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.chronicle import Event


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Of an instance in a directory of its own."""
    monkeypatch.setenv("SEGUE_DIRECTORY", str(tmp_path / "run"))
    return Paths.of("t")


def event(number: int, result: str = "", why: str = "", by: str = "") -> Event:
    return Event(
        key=f"k{number}", kind="restart", at=float(number), what="restart",
        result=result, why=why, by=by,
    )  # fmt: skip


def test_the_last_line_of_an_event_is_true(paths: Paths) -> None:
    """It is written when it begins and when it ends."""
    writer = History(paths)
    writer.write(event(2))
    writer.write(event(1, result="served"))
    writer.write(event(2, result="failed", why="x"))
    assert [(one.key, one.result) for one in read(paths)] == [("k1", "served"), ("k2", "failed")]


def test_it_is_bounded_and_keeps_the_latest(paths: Paths) -> None:
    """Two halves, of which the older is forgotten."""
    writer = History(paths)
    for number in range(4 * MOST // 1000):
        writer.write(event(number, why="y" * 900))
    sizes = [Path(path).stat().st_size for path in (paths.history, paths.older_history)]
    assert max(sizes) <= MOST
    found = read(paths)
    assert found[-1].key == f"k{4 * MOST // 1000 - 1}"
    assert len(found) > MOST // 2000
    assert [one.at for one in found] == sorted(one.at for one in found)


def test_what_is_no_event_is_left_out(paths: Paths) -> None:
    """A full disk cuts a line, and anybody of this user may write into the file."""
    writer = History(paths)
    writer.write(event(1))
    with open(paths.history, "ab") as file:
        file.write(b'{"key": "cut\nnull\n[[[\n' + b"[" * 5000 + b"\n")
        file.writelines(
            b'{"key": "k3", "kind": "crash", "what": "", "at": ' + number + b"}\n"
            for number in (b"NaN", b"-Infinity", b"1e999", b"1e308", b"-1e17", b"9" * 400)
        )
    writer.write(event(2))
    assert [one.key for one in read(paths)] == ["k1", "k2"]


def test_a_stop_leaves_it(paths: Paths) -> None:
    """All other files of the instance go."""
    History(paths).write(event(1))
    Path(paths.record).write_text("{}")
    paths.remove()
    assert [one.name for one in Path(paths.base).parent.iterdir()] == ["t.history"]


def test_a_link_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    """Somebody could have put one there."""
    target = tmp_path / "precious"
    target.write_text("precious")
    Path(paths.history).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        History(paths).write(event(1))
    assert read(paths) == []
    assert target.read_text() == "precious"


def test_the_command_shows_what_there_is(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The only history without a name; the kind; JSON; and the words of others made harmless."""
    writer = History(paths)
    writer.write(event(1, result="failed", why="worker \x1b]0;title\x07 [red]exited", by="root"))
    writer.write(Event(key="s", kind="stall", at=2.0, what="worker 1.1 accepted nothing"))
    assert main(["history"]) == 0
    said = capsys.readouterr().out
    assert "restart: failed" in said
    assert "because worker \\x1b]0;title\\x07 [red]exited" in said
    assert "by root" in said
    assert "accepted nothing" in said
    assert main(["history", "--kind", "stall", "--json"]) == 0
    assert '"kind": "stall"' in capsys.readouterr().out
    assert main(["history", "--kind", "nova"]) == 0
    assert "nothing of kind nova is written down of t" in capsys.readouterr().out
    assert main(["history", "--last", "0"]) == 2


def test_the_command_says_which_histories_there_are(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """None, or several of instances that run no more."""
    assert main(["history", "--name", "u"]) == 2
    assert "there is no history of an instance named u" in capsys.readouterr().err
    assert main(["history"]) == 2
    assert "there is no history of an instance of yours" in capsys.readouterr().err
    for name in ("t", "u"):
        history.History(Paths.of(name)).write(event(1))
    assert main(["history"]) == 2
    assert "several instances have a history; pick one with --name: t, u" in capsys.readouterr().err
    assert main(["history", "--name", "../t"]) == 2
