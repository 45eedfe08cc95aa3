"""``segue trace``: each decision is told, and only while somebody asks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.policy.clients import close, connect, queue
from tests.supervisor.instance import ROOT, Instance, load
from tests.waiting import PATIENCE, wait_until

from segue.linux import sysctl

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

# Accepts when it is told to, so that its queue can be looked at.
SLEEPER = (
    sys.executable, "-S", "-E", "-c",
    # What it accepts first is the proof that it is ready.
    "import socket, signal; s = socket.socket(fileno=3); s.accept(); signal.pause()",
)  # fmt: skip


@contextmanager
def tracing(one: Instance, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A ``segue trace`` of this instance, which has begun."""
    with subprocess.Popen(
        [sys.executable, "-m", "segue", "trace", "--control", one.control, *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: traced(one), "the trace to begin")
            yield process
        finally:
            process.terminate()


def traced(one: Instance) -> bool:
    """Somebody traces."""
    return bool(one.status()["fronts"][0]["traced"])


def second(one: Instance) -> str:
    """What another who wants to trace is told."""
    done = subprocess.run(
        [sys.executable, "-m", "segue", "trace", "--control", one.control],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


def told(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """So many events."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_new_ones_and_those_that_migrate_are_told(netns: int, tmp_path: Path) -> None:
    """With the client, the worker it goes to, and the worker it comes from."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    # A rescue would move them as well: to a worker of the first generation.
    flags = ("--workers", "2", "--drain-timeout", "0.2", "--rescue", "off")
    with Instance(tmp_path, *flags, command=SLEEPER) as one:
        one.wait_serving(1, 2)
        with tracing(one, "--json") as process:
            clients = queue(6)
            new = told(process, 6)
            ports = {f"127.0.0.1:{client.getsockname()[1]}" for client in clients}
            assert {event["client"] for event in new} == ports
            assert {event["kind"] for event in new} == {"new"}
            assert {event["to"] for event in new} <= {"worker 1.1", "worker 1.2"}
            assert {event["from"] for event in new} == {None}
            assert one.ask("restart", now=True)["generation"] == 2
            later = told(process, 8)  # two knocks, six children
            moved = [event for event in later if event["kind"] == "child"]
            assert {event["client"] for event in moved} == ports
            origin = {event["client"]: event["to"] for event in new}
            for event in moved:
                assert event["from"] == origin[event["client"]]
                assert event["to"].startswith("worker 2.")
            close(clients)
        assert one.ask("stop", fast=True)["exit"] == 0
        one.wait()


def test_a_trace_ends_with_its_reader_and_with_new_code(netns: int, tmp_path: Path) -> None:
    """The program without records is back, connections and counts go on."""
    with Instance(tmp_path) as one:
        one.wait_serving(1, 1)
        with contextlib.ExitStack() as loaded:
            with tracing(one, "--count", "200") as process:
                # Before there is load: the first one ends by its count, however soon that comes.
                assert "another client traces this group" in second(one)
                finish = loaded.enter_context(load())
                assert process.wait(timeout=PATIENCE) == 0
                assert process.stdout is not None
                lines = process.stdout.read().splitlines()
            assert len(lines) == 200
            assert all(" new " in line and " to worker 1." in line for line in lines), lines
            wait_until(lambda: not traced(one), "the trace to end")
            with tracing(one) as process:
                assert one.ask("reexec")["exit"] == 0
                assert process.wait(timeout=PATIENCE) == 1
            one.wait_serving(1, 1)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        front = one.status()["fronts"][0]
        assert front["counts"]["new"] >= result.total - 1
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


@pytest.mark.kernel("5.10")
def test_who_cannot_trace_is_told(netns: int, tmp_path: Path) -> None:
    """An engine without a program, and an address that is not served here."""
    with Instance(tmp_path, "--engine", "drain") as one:
        one.wait_serving(1, 1)
        assert "tracing needs the engine migrate" in one.ask("trace")["error"]
        assert "nothing is bound to ':1' here" in one.ask("trace", bind=":1")["error"]
        with connect():
            pass
        assert one.ask("stop")["exit"] == 0
        one.wait()
