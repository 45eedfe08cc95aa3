"""Record and supervisor are both gone: the next ``segue run`` goes on with the workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.test_rights_live import PYTHON
from tests.supervisor.instance import ADDRESS, ROOT, Instance, load
from tests.waiting import wait_until

from segue.linux import proc

pytestmark = [
    pytest.mark.root,
    pytest.mark.program("setpriv"),
    pytest.mark.usefixtures("netns"),
]

OURS = 61021
NOBODY = 65534
SERVED = (PYTHON, "-S", "-E", str(ROOT / "examples" / "asyncio_server.py"))
NO_RECORD = "no record: took over 2 worker(s) by what their environment says"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, with one for the supervisor in it."""
    made = Path(tempfile.mkdtemp(prefix="segue-test-"))
    made.chmod(0o755)
    (made / "run").mkdir(0o755)
    for one in (made, made / "run"):
        os.chown(one, OURS, OURS)
    yield made
    shutil.rmtree(made)


def as_ours() -> tuple[str, ...]:
    return ("setpriv", "--reuid", str(OURS), "--regid", str(OURS), "--clear-groups")


class Robbed(Instance):
    """An instance that may lose supervisor and files, and whose workers are ended all the same."""

    def rob(self) -> list[int]:
        """Kill the supervisor and remove its files; the workers, which serve on."""
        pids = [one["pid"] for one in self.workers("serving")]
        self.left = getattr(self, "left", []) + [(pid, proc.start_time(pid)) for pid in pids]
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory / "run")
        return pids

    def __exit__(self, failed: type[BaseException] | None, *unused: object) -> None:
        super().__exit__(failed, *unused)
        for pid, born in getattr(self, "left", []):
            if proc.start_time(pid) == born:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.kernel("5.14")
def test_workers_without_a_record_are_taken_over(tmp_path: Path) -> None:
    """They serve on, nothing is lost, and they can be restarted as before."""
    with Robbed(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as measured:
            pids = one.rob()
            one.again()
            one.wait_serving(1, 2)
            assert [worker["pid"] for worker in one.workers("serving")] == pids
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2, 2)
            found = measured()
        assert found.lost == 0, found.counts
    assert NO_RECORD in one.said()
    assert "are not known" in one.said()


def test_an_ordinary_users_are_too(place: Path) -> None:
    """By the engine drain, which does not know the order of listeners then."""
    env = {"XDG_RUNTIME_DIR": ""}
    with Robbed(place, "--workers", "2", before=as_ours(), env=env, command=SERVED) as one:
        one.wait_serving(1, 2)
        pids = one.rob()
        os.chown(place, OURS, OURS)
        one.again()
        wait_until(lambda: len(one.workers("serving")) == 2, one.said())
        assert [worker["pid"] for worker in one.workers("serving")] == pids
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2, 2)
    assert NO_RECORD in one.said()


def test_two_generations_are_told_apart(tmp_path: Path) -> None:
    """A canary, with its incumbents: the newer serves once it has proved that it accepts."""
    with Robbed(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        assert one.ask("restart", canary=10)["exit"] == 0
        assert len(one.workers("serving")) == 4
        one.rob()
        one.again()
        one.wait_serving(2, 2)
    assert "workers of generations 1 and 2 run" in one.said()


def test_workers_that_serve_elsewhere_are_named(tmp_path: Path) -> None:
    """Without a record it cannot be known at which addresses; they are left alone."""
    with Robbed(tmp_path) as one:
        one.wait_serving()
        (pid,) = one.rob()
        one.argv[one.argv.index(ADDRESS)] = "127.0.0.1:8081"
        one.again()
        one.wait_serving()
        assert f"pid {pid} (" in one.said()
        assert "says that it is worker 1.1 of t, and serves none of its addresses" in one.said()
        assert "no record" not in one.said()
        assert proc.start_time(pid) is not None


def test_a_supervisor_that_lives_keeps_its_workers(tmp_path: Path) -> None:
    """Only its files are gone: a second one ends with a sentence, the first makes them again."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        one.process.send_signal(signal.SIGSTOP)
        shutil.rmtree(tmp_path / "run")
        done = subprocess.run(
            one.argv, cwd=ROOT, env=one.env, capture_output=True, text=True, timeout=60, check=False
        )
        said = f"pid {one.process.pid} runs an instance named t"
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        one.process.send_signal(signal.SIGCONT)
        wait_until(one.status, "the control socket")
        assert one.workers("serving")


# What says of itself that it is the worker of an instance, and listens at its address itself.
FORGED = """
import socket, sys, time
with socket.socket() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", 8080)); listening.listen()
    print(flush=True); time.sleep(60)
"""


@pytest.mark.parametrize("user", [NOBODY, 61022])
def test_who_only_says_so_is_not_taken_over(tmp_path: Path, user: int) -> None:
    """A listener of their user is not the supervisor's own; another user counts never."""
    says = {
        "SEGUE_WORKER": str(tmp_path / "run" / "t.w1"),
        "SEGUE_NAME": "t",
        "SEGUE_GENERATION": "1",
    }
    who = ("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups")
    forging = subprocess.Popen(
        [*who, PYTHON, "-S", "-E", "-c", FORGED], env={**os.environ, **says},
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert forging.stdout is not None
        assert forging.stdout.readline()
        with Instance(tmp_path, "--user", "nobody", command=SERVED) as one:
            assert one.wait() == 1, one.said()
            assert f"{ADDRESS} is in use" in one.said()
        assert forging.poll() is None
    finally:
        forging.kill()
        forging.communicate()
