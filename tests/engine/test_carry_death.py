"""Whoever carries is killed between two steps: the client gets an answer, or an end it sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.carrying import LIMIT, STEPS, Scene, ask, dial, servers, settled

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

TOP = Path(__file__).parents[2]
MOVER = """
import os, signal, socket, sys
from tests.engine.carrying import after, carry
from segue.engine.carry import Carrier
connection, listener, owner, last = sys.argv[1:]
old, target = (socket.socket(fileno=int(one)) for one in (connection, listener))
with Carrier() as carrier, after(last, lambda: os.kill(os.getpid(), signal.SIGKILL)):
    carry(carrier, old, target, int(owner))
"""
ENDS = {
    "hold": "A",
    "look": "A",
    "guard": "A",
    "repair": "A",
    "disconnect": "reset",
    "inject": "B",
    "leave": "B",
    "finish": "B",
    "let go": "B",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_client_is_never_left_in_silence(step: str) -> None:
    """Its old server answers, or the new one; or it is reset, where no process has it any more."""
    with servers("127.0.0.1") as scene, dial("127.0.0.1") as client:
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            scene.steering.share({1: 1.0})
            kill_after(step, scene, old.fileno())
        try:
            # Beyond the hold, 0.1 s, what was dropped comes again.
            client.settimeout(LIMIT)
            found = ask(client, b"two").decode()
        except ConnectionResetError:
            found = "reset"
        assert found.removesuffix("two") == ENDS[step]
        for server in scene.servers:
            assert server.process.poll() is None


def kill_after(step: str, scene: Scene, connection: int) -> None:
    target, owner = scene.servers[1].listener.fileno(), scene.servers[0].process.pid
    given = [str(one) for one in (connection, target, owner)]
    command = [sys.executable, "-c", MOVER, *given, step]
    with subprocess.Popen(command, pass_fds=[connection, target], cwd=TOP) as mover:
        assert mover.wait(30) == -9
