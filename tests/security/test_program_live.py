"""The program of a group belongs to its supervisor, whatever a worker of another user does."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE, wait_until

from segue.linux import sysctl

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("netns")]

PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
HOSTILE = (PYTHON, "-S", "-E", str(Path(__file__).with_name("hostile.py")))
MIGRATE = pytest.param("migrate", marks=pytest.mark.kernel("5.14"))
HASH = pytest.param("hash", marks=pytest.mark.kernel("5.14"))
ENGINES = [MIGRATE, HASH, "drain"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that everybody may enter."""
    made = Path(tempfile.mkdtemp(prefix="segue-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def instance(place: Path, engine: str, what: str, *flags: str, often: str = "once") -> Instance:
    """One whose canary, after a restart, is hostile as soon as there is the file ``go``."""
    if engine == "hash":
        sysctl.write("net.ipv4.tcp_migrate_req", "1")
    return Instance(
        place, "--engine", engine, *flags, command=(*HOSTILE, what, often),
        env={"GO": str(place / "go")},
    )  # fmt: skip


def answers(count: int) -> Counter[str]:
    """Which generations answer so many connections."""
    found: Counter[str] = Counter()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE) as client:
            found[client.recv(16).decode()] += 1
    return found


def restored(one: Instance) -> int:
    """How often the program was put back."""
    return sum(int(front["restored"]) for front in one.status().get("fronts", []))


def begin(one: Instance, place: Path, result: str) -> None:
    """A hostile canary of 1 %, which has done what it wanted, or not."""
    one.wait_serving()
    assert one.ask("restart", canary=1)["exit"] == 0
    # 3 of 300 are expected, and 16 or more once in 10 million runs.
    assert answers(300)["2"] < 16
    (place / "go").touch()
    wait_until(lambda: f"hostile {result}" in one.said(), f"{result}\n{one.said()}")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_of_another_user_cannot_attach_a_program(place: Path, engine: str) -> None:
    """A canary of 1 % stays one."""
    with instance(place, engine, "attach", "--user", "nobody") as one:
        begin(one, place, "attach: Operation not permitted")
        assert answers(300)["2"] < 16
        assert restored(one) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_is_taken_off_comes_back(place: Path, engine: str) -> None:
    """Within a look or two; it is said, and the status counts it."""
    with instance(place, engine, "detach", "--user", "nobody") as one:
        begin(one, place, "detach: done")

        def noticed() -> bool:
            # One that happens just after members came or went may be mended unnoticed.
            (place / "go").touch()
            return restored(one) > 0

        wait_until(noticed, f"a restored program\n{one.said()}")
        wait_until(lambda: answers(300)["2"] < 16, "the shares as they were")
        assert "the program that steers 127.0.0.1:8080 was gone or exchanged" in one.said()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_of_our_own_users_worker_is_replaced(place: Path, engine: str) -> None:
    """A worker of the supervisor's user may attach one; ours comes back all the same."""
    with instance(place, engine, "attach") as one:
        begin(one, place, "attach: done")
        wait_until(lambda: answers(300)["2"] < 16, f"a restored program\n{one.said()}")


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_goes_on_with_locked_listeners(place: Path, engine: str) -> None:
    """Shares, scaling, a restart, a death and an end, with each program by a member of our own."""
    with instance(place, engine, "attach", "--user", "nobody") as one:
        one.wait_serving()
        assert one.ask("scale", workers=3)["exit"] == 0
        one.wait_serving(workers=3)
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2, workers=3)
        victim = one.workers("serving")[0]["pid"]
        os.kill(victim, 9)
        wait_until(
            lambda: victim not in [w["pid"] for w in one.workers("serving")], "the victim replaced"
        )
        one.wait_serving(2, workers=3)
        assert answers(100) == {"2": 100}
        assert restored(one) == 0
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


@pytest.mark.kernel("5.14")
def test_a_next_supervisor_takes_locked_listeners_over(place: Path) -> None:
    """Its program takes the place of the dead one's, and its table gets the listeners."""
    with instance(place, "migrate", "attach", "--user", "nobody", "--workers", "2") as one:
        one.wait_serving(workers=2)
        one.process.kill()
        one.process.wait()
        one.again()
        one.wait_serving(workers=2)
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2, workers=2)
        assert answers(50) == {"2": 50}
