"""``segue reexec`` to code that is not as it should be: the instance serves on, and says so.

Each instance runs a copy of the code, which is changed while it runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import ROOT, Instance
from tests.waiting import wait_until

from segue.supervisor.control import client
from segue.supervisor.run import upgrade

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

HANDOVER = "supervisor/run/handover.py"
RESUME = "supervisor/run/resume.py"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the package that the instance of the test runs."""
    copy = tmp_path / "code"
    shutil.copytree(
        ROOT / "src" / "segue", copy / "segue", ignore=shutil.ignore_patterns("__pycache__")
    )
    return copy


def started(tmp_path: Path, code: Path) -> Instance:
    return Instance(tmp_path, "--workers", "2", env={"PYTHONPATH": str(code)})


def change(code: Path, file: str, before: str, after: str) -> None:
    """Install new code."""
    path = code / "segue" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def pids(one: Instance) -> set[int]:
    return {worker["pid"] for worker in one.status()["workers"]}


def test_new_code_goes_on_and_says_so(netns: int, tmp_path: Path, code: Path) -> None:
    """The answer is the new code's own, after it has taken everything over."""
    with started(tmp_path, code) as one:
        one.wait_serving(1, 2)
        before = pids(one)
        change(code, RESUME, "new code (pid", "newer code (pid")
        assert one.ask("reexec") == {"exit": 0}
        assert "newer code (pid" in one.said()
        assert pids(one) == before


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("VERSION = 1", "VERSION = 2", "hands over in version 1, and this code reads version 2"),
        ('exit_code=int(plain["exit_code"])', 'exit_code=int(plain["x"])', "KeyError: 'x'"),
        ("VERSION = 1", "VERSION = 1 1", "SyntaxError"),
    ],
    ids=["another version", "one key more", "no Python"],
)
def test_new_code_that_cannot_read_the_handover_is_not_become(
    netns: int, tmp_path: Path, code: Path, before: str, after: str, why: str
) -> None:
    """It is found out before exec: the old code answers with the reason, and serves on."""
    with started(tmp_path, code) as one:
        one.wait_serving(1, 2)
        had = pids(one)
        change(code, HANDOVER, before, after)
        answer = one.ask("reexec")
        assert answer["exit"] == 1
        assert why in answer["error"]
        assert "the old one goes on" in answer["error"]
        assert pids(one) == had
        change(code, HANDOVER, after, before)
        assert one.ask("reexec") == {"exit": 0}
        assert pids(one) == had


def test_new_code_may_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of words without an end a part is kept, nonsense is shown as such, and silence ends."""

    def answer(code: str) -> tuple[int, str]:
        return upgrade._answer([sys.executable, "-S", "-E", "-c", f"import os, time; {code}"], 0)

    code, words = answer("[os.write(2, b'x' * 65536) for _ in range(300)]; os._exit(3)")
    assert (code, len(words), set(words)) == (3, 1 << 20, {"x"})
    assert answer("os.write(2, b'\\xff?'); os._exit(4)") == (4, "\ufffd?")
    monkeypatch.setattr(upgrade, "_CHECK_SECONDS", 0.2)
    for silent in ("time.sleep(60)", "os.close(2); time.sleep(60)", "os.write(2, b'x') and 0"):
        loop = silent if "sleep" in silent else f"[0 for _ in iter(lambda: {silent}, 1)]"
        with pytest.raises(subprocess.TimeoutExpired):
            answer(loop)


def test_new_code_that_fails_after_exec_takes_over_by_the_record(
    netns: int, tmp_path: Path, code: Path
) -> None:
    """There is no way back then; its client is told, and the workers have a supervisor again."""
    with started(tmp_path, code) as one:
        one.wait_serving(1, 2)
        had = pids(one)
        broken = 'raise RuntimeError("a bug")\n    said = f"new code'
        change(code, RESUME, 'said = f"new code', broken)
        answer = one.ask("reexec")
        assert answer["exit"] == 1
        assert "RuntimeError: a bug" in answer["error"]
        wait_until(lambda: "took over 2 worker(s)" in one.said(), "it has taken over")
        wait_until(lambda: one.status().get("phase") == "serving", "it serves")
        assert pids(one) == had
        assert one.ask("restart")["exit"] == 0


def test_a_restart_while_new_code_is_tried_waits_for_it(
    netns: int, tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor answers nobody meanwhile: the client says so, and the new code answers it."""
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.1)
    trying = tmp_path / "trying"
    slow = f"open({str(trying)!r}, 'w').close(); import time; time.sleep(1)"
    with started(tmp_path, code) as one:
        one.wait_serving(1, 2)
        change(code, "supervisor/run/start.py", "Handover.from_json(handed)\n", f"{slow}\n")
        reexec = [sys.executable, "-m", "segue", "reexec", "--control", one.control]
        with subprocess.Popen(reexec, stderr=subprocess.DEVNULL) as reexecuting:
            wait_until(trying.exists, "new code is tried")
            said: list[str] = []
            answer = client.converse(one.control, {"do": "restart"}, said.append)
            assert reexecuting.wait() == 0
        assert said[0].startswith("the supervisor has not answered for 0.1 s")
        assert (answer["exit"], answer["generation"]) == (0, 2)


def test_an_interpreter_that_is_gone_is_an_answer(netns: int, tmp_path: Path, code: Path) -> None:
    """exec(2) itself can be refused after the check: the old code answers, and serves on."""
    with started(tmp_path, code) as one:
        one.wait_serving(1, 2)
        change(
            code,
            "supervisor/run/upgrade.py",
            "os.execv(upgrade.argv[0], upgrade.argv)",
            'os.execv("/nowhere/python", upgrade.argv)',
        )
        assert one.ask("reexec") == {"exit": 0}  # by the code from before the change
        answer = one.ask("reexec")
        assert answer["exit"] == 1
        assert "No such file or directory" in answer["error"]
        assert one.ask("restart")["exit"] == 0
