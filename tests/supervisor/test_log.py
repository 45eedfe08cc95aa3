"""Workers' output: lines whole, readers that do not read, pipes that outlive the supervisor."""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import KernelError
from segue.supervisor.control.log import Log, pieces
from segue.supervisor.workers.pipe import Pipe, telling


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A worker's pipe, closed afterwards."""
    made = Pipe.open()
    yield made
    made.close()


def test_lines_come_whole_however_they_were_written(pipe: Pipe) -> None:
    """A line is passed on when its end has come; the rest when the worker has ended."""
    os.write(pipe.writer, b"one\ntw")
    assert pipe.lines(9) == ["one"]
    os.write(pipe.writer, b"o\r\nthree")
    assert pipe.lines(9) == ["two"]
    pipe.take_rest()
    assert pipe.last_words == "three"
    assert pipe.lines(9) == ["three"]
    assert list(pipe.last) == ["one", "two", "three"]


STACKS = {
    "ruby": ["x.rb:1:in `bind': in use (Errno::EADDRINUSE)", "\tfrom x.rb:9:in `<main>'"],
    "python": ["Traceback (most recent call last):", '  File "x.py", line 1', "OSError: in use"],
    "java": ["Exception in thread", "\tat a.B", "Caused by: java.net: in use", "\t... 12 more"],
    "node": [
        "Error: in use", "    at Module", "  code: 'E',", "}", "", "Node.js v20.2.0",
    ],
    "go": ["panic: in use", "", "goroutine 1 [running]:", "main.main()", "\t/x/main.go:5 +0x1d"],
    "rust": ["thread 'main' panicked:", "in use", "note: run with `RUST_BACKTRACE=1`"],
}  # fmt: skip


@pytest.mark.parametrize("language", STACKS)
def test_the_last_words_are_not_of_a_stack(pipe: Pipe, language: str) -> None:
    """They are the reason, wherever the language prints it, and whether it was passed on or not."""
    os.write(pipe.writer, "\n".join(["ready", *STACKS[language], ""]).encode())
    assert pipe.lines(2)[0] == "ready"
    pipe.take_rest()
    assert "in use" in pipe.last_words
    while pipe.whole:
        pipe.lines(9)
    assert "in use" in pipe.last_words


def test_where_nothing_says_why_the_last_line_is_repeated() -> None:
    """A stack is better than nothing."""
    assert telling(["  a frame", "  another"]) == "  another"
    assert telling([]) == ""


def test_a_line_without_an_end_does_not_grow_for_ever(pipe: Pipe) -> None:
    """After 64 KiB it is cut, so that a worker cannot fill the supervisor's memory."""
    os.write(pipe.writer, b"x" * 70_000)
    assert sum(len(line) for line in pipe.lines(9)) >= 65_536
    assert len(pipe.pending) < 65_536


def test_a_worker_may_write_when_nobody_reads_any_more() -> None:
    """The worker's end is open for reading as well: neither EPIPE nor SIGPIPE, and nothing lost."""
    made = Pipe.open()
    worker = os.dup(made.writer)
    made.close()
    assert os.write(worker, b"while nobody read\n") == 18
    again = Pipe.of_descriptor(os.dup(worker), os.fstat(worker).st_ino)
    assert again.lines(9) == ["while nobody read"]
    os.close(worker)
    again.close()


def test_what_is_not_the_worker_s_pipe_is_left_alone(pipe: Pipe, tmp_path: Path) -> None:
    """A worker may put a file, or somebody else's pipe, in the place of its own."""
    others = Pipe.open()
    for other in (os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR), os.dup(others.writer)):
        with pytest.raises(KernelError, match="something else"):
            Pipe.of_descriptor(other, pipe.inode)
    others.close()


def test_lines_are_given_out_in_bounded_pieces(pipe: Pipe) -> None:
    """However many wait, no more than asked for come at once, and none is lost or moved."""
    os.write(pipe.writer, b"".join(b"%d\n" % number for number in range(40_000)))
    found = []
    while some := pipe.lines(100):
        assert len(some) <= 100
        found += some
    assert found == [str(number) for number in range(40_000)]


def test_what_is_skipped_is_counted_and_its_end_remembered(pipe: Pipe) -> None:
    """The count is that of whole lines; one that has begun goes on afterwards."""
    os.write(pipe.writer, b"".join(b"%d\n" % number for number in range(50_000)) + b"beg")
    assert pipe.skip() == 50_000
    assert list(pipe.last) == [str(number) for number in range(49_980, 50_000)]
    os.write(pipe.writer, b"un\n")
    assert pipe.lines(9) == ["begun"]


def test_of_a_rest_the_last_lines_can_be_kept(pipe: Pipe) -> None:
    """How many went is said; of few lines none goes."""
    os.write(pipe.writer, b"".join(b"%d\n" % number for number in range(100)) + b"end")
    pipe.take_rest()
    assert pipe.keep_last() == 81
    assert pipe.keep_last() == 0
    assert pipe.lines(99) == [*(str(number) for number in range(81, 100)), "end"]


def test_pieces_are_of_whole_lines_where_they_fit() -> None:
    """Each is a write that a pipe takes whole; a longer line is cut, and nothing is lost."""
    data = b"short\n" * 3000 + b"x" * 10_000 + b"\n" + b"after\n"
    found = list(pieces(data))
    assert b"".join(found) == data
    assert max(map(len, found)) <= select.PIPE_BUF
    assert sum(not one.endswith(b"\n") for one in found) == 2


def test_a_reader_that_does_not_read_stops_nothing() -> None:
    """When the stream is full, lines are dropped and counted, and the count is said later."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    saved = os.dup(2)
    os.dup2(writer, 2)
    try:
        log = Log()
        for _ in range(2000):
            log.say("x" * 100)
        dropped = log.dropped
        assert dropped > 500
        received = os.read(reader, 1 << 20)
        assert received.count(b"\n") == 2000 - dropped
        log.say("again")
        assert log.dropped == 0
        lines = os.read(reader, 1 << 20).decode().splitlines()
        assert lines == [f"segue: {dropped} lines were not read", "segue: again"]
    finally:
        os.dup2(saved, 2)
        for descriptor in (saved, reader, writer):
            os.close(descriptor)


def test_a_reader_that_is_gone_stops_nothing() -> None:
    """EPIPE is no reason to stop serving."""
    reader, writer = os.pipe()
    os.close(reader)
    saved = os.dup(2)
    os.dup2(writer, 2)
    try:
        Log().say("to nobody")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writer)


def test_lines_into_a_file_have_the_time(tmp_path: Path) -> None:
    """Those of Segue's own, where nobody else knows it: not into a pipe, and as it was asked."""
    saved = os.dup(2)
    reader, writer = os.pipe()
    with open(tmp_path / "log", "wb") as file:
        os.dup2(file.fileno(), 2)
        Log(times="auto").say("auto")
        Log(times="off").say("off")
        os.dup2(writer, 2)
        Log(times="auto").say("auto")
        Log(times="on").say("on")
        os.dup2(saved, 2)
    auto, off = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 segue: auto", auto)
    assert off == "segue: off"
    auto, on = os.read(reader, 999).decode().splitlines()
    assert auto == "segue: auto"
    assert on.endswith("+00:00 segue: on")
    for descriptor in (saved, reader, writer):
        os.close(descriptor)


@pytest.mark.parametrize("log", [Log("json", instance="web"), Log(format="json", instance="web")])
def test_a_line_of_json_says_when_how_grave_and_whose(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    """One object a line, whichever option asked for JSON, also for a text of several lines."""
    log.say("one\n  two", "warning")
    (line,) = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", said.pop("time"))
    assert said == {
        "level": "warning", "instance": "web", "who": "segue", "line": "one\n  two",
    }  # fmt: skip


def test_journald_gets_the_level_of_each_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sd-daemon(3) has it, where the journal is what stderr leads to; nowhere else."""
    Log().say("elsewhere", "error")
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    Log().say("calm")
    Log().say("grave\nindeed", "error")
    assert capfd.readouterr().err.splitlines() == [
        "segue: elsewhere", "<6>segue: calm", "<3>segue: grave", "<3>  indeed",
    ]  # fmt: skip
