"""A load in a process of its own: it ends when it is told to, and its result comes back whole."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench.load import result
from tests.probe.servers import misbehaving
from tests.supervisor.instance import wait_for_load
from tests.waiting import PATIENCE

from segue.errors import UsageError
from segue.probe.fates import Fate
from segue.probe.result import Event, Result

ROOT = Path(__file__).parent.parent.parent
FOUND = Result(
    "target",
    "load",
    began=1.0,
    began_monotonic=2.0,
    seconds=3.0,
    counts={Fate.OK: 2, Fate.RESET_AFTER: 1},
    statuses={200: 2},
    versions={"1": 2},
    version_times={"1": (0.5, 2.5)},
    certificate_times={"a": (0.5, 2.5)},
    p50_ms=1.5,
    examples={Fate.RESET_AFTER: "after 1.500 s: ECONNRESET"},
    events=(Event(0.5, 1.5, Fate.OK),),
)


def test_json_and_back_is_the_same_result() -> None:
    """Numbers as keys, pairs and fates too."""
    assert result(json.dumps(FOUND.as_dict())) == FOUND
    assert result(json.dumps(replace(FOUND, events=()).as_dict())).events == ()


@pytest.mark.parametrize("text", ["{}", '{"counts": {"dropped": 1}}', '{"counts": 3}', "[]", "no"])
def test_what_is_no_result_is_refused(text: str) -> None:
    """Something else is said to be that."""
    with pytest.raises(UsageError, match="not the result of a probe"):
        result(text)


@pytest.mark.root
def test_a_load_ends_with_its_stdin(netns: int) -> None:
    """It says when it begins; what it found is what the server did."""
    command = [sys.executable, "-m", "bench.load", "127.0.0.1:8080", "--rate", "200", "--events"]
    pipe = subprocess.PIPE
    with misbehaving("answer") as did:
        process = subprocess.Popen(
            [*command, "--until-stdin-closes"], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"probing 127.0.0.1:8080\n"
            wait_for_load(50)
            said, wrong = process.communicate(timeout=PATIENCE)
    found = result(said)
    assert (process.returncode, wrong) == (0, b"")
    assert found.counts == {Fate.OK: did["answer"]}
    assert did["answer"] >= 50
    assert len(found.events) == found.total


@pytest.mark.root
@pytest.mark.parametrize("pace", [("--concurrency", "2"), ("--keep-alive", "2")])
def test_a_load_ends_with_its_count(netns: int, pace: tuple[str, str]) -> None:
    """In each way of asking."""
    command = [sys.executable, "-m", "bench.load", "127.0.0.1:8080", "--count", "6", *pace]
    with misbehaving("answer"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE)
    assert result(done.stdout).counts[Fate.OK] == 6
