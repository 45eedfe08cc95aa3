"""The end of an instance: what clients notice of it, however it is asked for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance, wait_until
from tests.supervisor.test_survival_live import PYTHON, SLOW, get, rest

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def test_a_second_term_changes_nothing(netns: int, tmp_path: Path) -> None:
    """The request in flight is answered, the exit code is 0, and the log says so once."""
    with Instance(tmp_path, command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        client = get("/0.01-1.5")
        wait_until(lambda: one.workers("serving")[0]["connections"], "an accepted request")
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.workers("stopping"), "the stop")
        for _ in range(2):
            os.kill(one.process.pid, signal.SIGTERM)
            wait_until(lambda: "TERM: the instance stops already" in one.said(), "a word")
        assert rest(client).endswith(b"..")
        assert one.wait() == 0
        assert one.said().count("the instance stops already") == 1
        assert one.said().count("is told to stop") == 1
