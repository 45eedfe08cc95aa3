"""What a shell gets to complete command lines, and what it is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.supervisor.instance import Instance

from segue.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It calls segue again to be answered."""
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert f"_SEGUE_COMPLETE={shell}_complete" in said


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    assert main(["completion", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.program("bash")
def test_bash_takes_the_script() -> None:
    """As a line of ~/.bashrc does."""
    script = subprocess.check_output([sys.executable, "-m", "segue", "completion", "bash"])
    took = subprocess.check_output(["bash", "-c", script.decode() + "\ncomplete -p segue"])
    assert b"_segue_completion segue" in took


def completed(*words: str, env: dict[str, str] | None = None) -> list[str]:
    """What bash is answered for the last of these words."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    asked["_SEGUE_COMPLETE"] = "bash_complete"
    command = [sys.executable, "-c", "import segue.cli.main as m; m.entry()"]
    said = subprocess.check_output(command, env={**os.environ, **(env or {}), **asked}, text=True)
    return [line.partition(",")[2] for line in said.splitlines() if line]


def test_commands_options_and_values_are_completed() -> None:
    """From the definitions of the commands themselves."""
    assert completed("segue", "his") == ["history"]
    assert completed("segue", "run", "--carry", "a") == ["auto", "app"]
    assert "--canary" in completed("segue", "restart", "--c")


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_names_of_instances_are_completed(netns: int, tmp_path: Path) -> None:
    """Of those that run."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        assert completed("segue", "status", "--name", "t", env=one.env) == ["t"]
        assert completed("segue", "status", "--name", "x", env=one.env) == []
