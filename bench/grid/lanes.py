"""Several restarts side by side, each with two hosts of its own.

A restart is waiting for the most part, so that a few of them do not get in each other's way; all
that is timed in one goes before whatever is not (``segue.lab.comparing.on_linux``).
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from bench.grid.cells import Restart
from bench.grid.lane import told
from bench.harness import ROOT

_ENDS_S = 60.0  # of a lane whose input has ended: a restart and its forecast


def side_by_side(
    asked: Iterable[tuple[int, Restart]], count: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the findings of each restart, as they are there.

    Raises RuntimeError when a lane ends.  When the caller stops, the lanes end what they are at.
    """
    waiting: queue.SimpleQueue[tuple[int, Restart]] = queue.SimpleQueue()
    total = 0
    for one in asked:
        waiting.put(one)
        total += 1
    done: queue.SimpleQueue[tuple[int, dict[str, Any]] | Exception] = queue.SimpleQueue()
    lanes = [_start() for _ in range(min(count, total))]
    threads = [
        threading.Thread(target=_feed, args=(lane, waiting, done.put), daemon=True)
        for lane in lanes
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in range(total):
            found = done.get()
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join(_ENDS_S)
        for lane in lanes:
            _end(lane)


def _start() -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "bench.grid.lane"]
    pipe = subprocess.PIPE
    # Of a session of its own: a terminal's Ctrl-C lets it end what it is at.
    return subprocess.Popen(
        argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    )


def _feed(
    lane: subprocess.Popen[str],
    waiting: queue.SimpleQueue[tuple[int, Restart]],
    tell: Callable[[tuple[int, dict[str, Any]] | Exception], None],
) -> None:
    try:
        while True:
            number, one = waiting.get_nowait()
            _to(lane.stdin).write(f"{told(one)}\n")
            _to(lane.stdin).flush()
            line = _to(lane.stdout).readline()
            if not line:
                tell(RuntimeError(f"a lane ended at {one}"))
                return
            tell((number, json.loads(line)))
    except queue.Empty:
        return
    except OSError as error:
        tell(error)


def _end(lane: subprocess.Popen[str]) -> None:
    _to(lane.stdin).close()
    try:
        lane.wait(_ENDS_S)
    except subprocess.TimeoutExpired:
        lane.kill()
        lane.wait()
    _to(lane.stdout).close()


def _to(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
