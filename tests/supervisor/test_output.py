"""Workers' output: lines whole, readers that do not read, pipes that outlive the supervisor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.errors import KernelError
from segue.supervisor.control.log import Pipe, Voice


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A worker's pipe, closed afterwards."""
    made = Pipe.open()
    yield made
    made.close()


def test_lines_come_whole_however_they_were_written(pipe: Pipe) -> None:
    """A line is passed on when its end has come; the rest when the worker has ended."""
    os.write(pipe.writer, b"one\ntw")
    assert pipe.lines() == ["one"]
    os.write(pipe.writer, b"o\r\nthree")
    assert pipe.lines() == ["two"]
    assert pipe.rest() == ["three"]
    assert list(pipe.last) == ["one", "two", "three"]


def test_a_line_without_an_end_does_not_grow_for_ever(pipe: Pipe) -> None:
    """After 64 KiB it is cut, so that a worker cannot fill the supervisor's memory."""
    os.write(pipe.writer, b"x" * 70_000)
    assert sum(len(line) for line in pipe.lines()) >= 65_536
    assert len(pipe.pending) < 65_536


def test_a_worker_may_write_when_nobody_reads_any_more() -> None:
    """The worker's end is open for reading as well: neither EPIPE nor SIGPIPE, and nothing lost."""
    made = Pipe.open()
    worker = os.dup(made.writer)
    made.close()
    assert os.write(worker, b"while nobody read\n") == 18
    again = Pipe.of_descriptor(os.dup(worker), os.fstat(worker).st_ino)
    assert again.lines() == ["while nobody read"]
    os.close(worker)
    again.close()


def test_what_is_not_the_worker_s_pipe_is_left_alone(pipe: Pipe, tmp_path: Path) -> None:
    """A worker may put a file, or somebody else's pipe, in the place of its own."""
    others = Pipe.open()
    for other in (os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR), os.dup(others.writer)):
        with pytest.raises(KernelError, match="something else"):
            Pipe.of_descriptor(other, pipe.inode)
    others.close()


def test_one_worker_that_floods_leaves_others_their_turn(pipe: Pipe) -> None:
    """At one event no more than 64 KiB is taken; nothing is lost of what comes after."""
    os.write(pipe.writer, b"line\n" * 40_000)
    first = len(pipe.lines())
    assert 0 < first <= 65_536 // 5
    assert first + len(pipe.rest()) == 40_000


def test_a_reader_that_does_not_read_stops_nothing() -> None:
    """When the stream is full, lines are dropped and counted, and the count is said later."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    saved = os.dup(2)
    os.dup2(writer, 2)
    try:
        voice = Voice()
        for _ in range(2000):
            voice.say("x" * 100)
        dropped = voice.dropped
        assert dropped > 500
        received = os.read(reader, 1 << 20)
        assert received.count(b"\n") == 2000 - dropped
        voice.say("again")
        assert voice.dropped == 0
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
        Voice().say("to nobody")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writer)
