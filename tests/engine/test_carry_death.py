"""Whoever carries is killed between two steps: the client gets an answer, or an end it sees."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.engine.carrying import STEPS, Scene, ask, carry, dial, servers, settled
from tests.waiting import PATIENCE

from segue.engine.carry import Carrier
from segue.linux import tcp_repair

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
            client.settimeout(PATIENCE)
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
        assert mover.wait(PATIENCE) == -9


SEVERAL = """
import os, signal, socket, sys
from tests.engine.carrying import after
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Wish
listener, owner, last, with_guard, *connections = sys.argv[1:]
target = socket.socket(fileno=int(listener))
wishes = [Wish(socket.socket(fileno=int(one))) for one in connections]
with Carrier() as carrier:
    def end():
        if int(with_guard):
            os.kill(carrier._guard._process.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    with after(last, end, time=2):
        # Again, when this machine is too busy for a second one in its time.
        while wishes:
            reports = carrier.batch(wishes, [target], [int(owner)], 60.0)
            wishes = [one.wish for one in reports if not one.carried]
"""


def kill_in_batch(step: str, scene: Scene, olds: list[socket.socket], *, guard: bool) -> None:
    """After a step of the second connection, whoever carries, and with it the guard if asked."""
    target, owner = scene.servers[1].listener.fileno(), scene.servers[0].process.pid
    numbers = [one.fileno() for one in olds]
    given = [str(one) for one in (target, owner, step, int(guard), *numbers)]
    command = [sys.executable, "-c", SEVERAL, *given]
    with subprocess.Popen(command, pass_fds=[*numbers, target], cwd=TOP) as mover:
        assert mover.wait(PATIENCE) == -9


@pytest.mark.parametrize("step", [one for one in STEPS if one not in {"guard", "let go"}])
def test_a_batch_that_ends_in_its_middle(step: str) -> None:
    """What was carried is carried, and what was not begun is as it was."""
    with ExitStack() as stack:
        scene = stack.enter_context(servers("127.0.0.1"))
        clients, olds = connected(stack, scene, 3)
        kill_in_batch(step, scene, olds, guard=False)
        for old in olds:
            old.close()
        found = [answered(one) for one in clients]
        assert found == ["B", ENDS[step], "A"]


def test_the_guard_dies_too() -> None:
    """A connection that is left in repair mode is silent, and is mended by whoever carries next."""
    with ExitStack() as stack:
        scene = stack.enter_context(servers("127.0.0.1"))
        clients, olds = connected(stack, scene, 2)
        kill_in_batch("repair", scene, olds, guard=True)
        assert tcp_repair.repaired(olds[1])
        clients[1].sendall(b"two")
        with Carrier() as carrier:
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            assert carry(carrier, olds[1], target, owner).carried
        for old in olds:
            old.close()
        assert clients[1].recv(9) == b"Btwo"


def connected(
    stack: ExitStack, scene: Scene, count: int
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Clients of the first server, and duplicates of what it has; the second has the share."""
    clients = [stack.enter_context(dial("127.0.0.1")) for _ in range(count)]
    olds = [stack.enter_context(scene.servers[0].accepted()) for _ in clients]
    for client, old in zip(clients, olds, strict=True):
        ask(client, b"one")
        settled(old)
    scene.steering.share({1: 1.0})
    return clients, olds


def answered(client: socket.socket) -> str:
    """By which server, or reset."""
    try:
        return ask(client, b"two").decode().removesuffix("two")
    except ConnectionResetError:
        return "reset"
