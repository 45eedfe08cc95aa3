"""A sweep that is killed and goes on, and one that a scheduler elsewhere does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.plan.test_sweep import SEGUE, here, one_is_done
from tests.waiting import wait_until

from segue.lab.hosts import Host
from segue.linux import proc

TEXT = "restarts = 800\n[service.a]\nrtt = '40,400'\nrate = [3000, 3001, 3002, 3003, 3004, 3005]"
_PORT = "8786"
_PATIENCE_S = 90.0  # with a busy machine, on which libraries take long to load


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Of six configurations that take a while each."""
    file = tmp_path / "slow.toml"
    file.write_text(TEXT)
    return file


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(asked: Path) -> None:
    """Without a chance to say anything; its processes end by themselves, and nothing is redone."""
    results = asked.parent / "kept"
    command = [*SEGUE, "--sweep", str(asked), "--results", str(results), "--processes", "2"]
    with subprocess.Popen(command, start_new_session=True) as sweeping:
        wait_until(lambda: one_is_done(results), "a first result", _PATIENCE_S)
        theirs = {pid: proc.start_time(pid) for pid in proc.tree(sweeping.pid)}
        sweeping.kill()
    wait_until(
        lambda: not [pid for pid, began in theirs.items() if proc.start_time(pid) == began],
        "the end of its processes",
        _PATIENCE_S,
    )
    before = results.read_bytes()
    before = before[: before.rfind(b"\n") + 1]
    assert 1 < before.count(b"\n") < 7
    done = subprocess.run([*command, "--json"], capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout) == here(TEXT)
    assert results.read_bytes().startswith(before)
    assert results.read_bytes().count(b"\n") == 7


@pytest.mark.root
@pytest.mark.slow
def test_a_scheduler_elsewhere_does_a_sweep(asked: Path) -> None:
    """Dask's own programs, as somebody runs them; a worker that is killed is made up for."""
    with Host("cluster") as host:
        scheduler = _start(host, "scheduler", "--host", "127.0.0.1", "--port", _PORT)
        address = f"tcp://127.0.0.1:{_PORT}"
        _said(scheduler, "Scheduler at")
        started = [_start(host, "worker", address, "--nthreads", "1", "--no-nanny") for _ in "ab"]
        for one in started:
            _said(one, "Registered to")
        results = asked.parent / "far"
        command = [*SEGUE, "--sweep", str(asked), "--results", str(results), "--json"]
        sweeping = host.spawn([*command, "--scheduler", address], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: one_is_done(results), "a first result", _PATIENCE_S)
        os.kill(started[0].pid, signal.SIGKILL)
        said, _ = sweeping.communicate(timeout=120)
        assert sweeping.returncode == 0
        assert json.loads(said) == here(TEXT)
        assert started[1].poll() is None, "a cluster of somebody else's goes on"


def _start(host: Host, what: str, *arguments: str) -> Any:
    """One of Dask's programs, without its page for browsers."""
    argv = [sys.executable, "-m", "dask", what, *arguments, "--no-dashboard"]
    return host.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _said(program: Any, words: str) -> None:
    for line in program.stderr:
        if words in line:
            return
    raise AssertionError(f"{program.args!r} ended")
