"""What the clients of the bench say, of which its tables are made."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from bench.cases.model_clients import wrk
from bench.cases.pytcp import CASE

ROOT = Path(__file__).parents[2]
# What the case adds to what its client says.
OWN = {"cpu_us"}
WANTED = {column.measure for column in CASE.columns} - OWN


def test_the_client_that_only_connects_says_all_that_is_wanted() -> None:
    """Every connection is there, and none is lost: the listener's queue is emptied by resets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        words = [sys.executable, "-m", "bench.connecting", host, str(port), "0.05", "2"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert set(found) == WANTED
    assert found["attempts"] >= 2


def test_what_wrk_says_has_all_that_is_wanted(tmp_path: Path) -> None:
    """By its output of a run, with an error of each kind."""
    said = tmp_path / "wrk"
    said.write_text(
        "#!/bin/sh\ncat <<'END'\n     99%    5.06ms\n  64754 requests in 5.00s, 8.03MB read\n"
        "  Socket errors: connect 1, read 2, write 0, timeout 1\nEND\n"
    )
    said.chmod(0o755)
    found = wrk([str(said)], 5.0)
    assert found == {"attempts": 64754.0, "rate": 12950.8, "lost": 4, "p99_ms": 5.06}
    assert set(found) == WANTED
