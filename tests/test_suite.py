"""How the suite itself is run: what is missing fails it, also from many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
CONFTEST = "from tests.conftest import *"
SETTINGS = "[pytest]\nfilterwarnings = error\nmarkers =\n    program(name): needs it\n"
LACKING = """
import pytest
@pytest.mark.program("no-such-program")
def test_one(): ...
def test_another(): ...
"""
LEAVING = """
import gc, os, socket
from tests import leaks
def test_one():
    before = leaks.descriptors()
    left = socket.socket()
    left.itself = [left]  # only a collection of garbage closes it
    assert leaks.descriptors() == before
def test_another():
    gc.collect()
    assert not [one for one in leaks.descriptors() if "socket" in one]
"""


def run(directory: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The suite's own rules over two tests."""
    (directory / "pytest.ini").write_text(SETTINGS)
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_lacking.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(directory)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        cwd=directory,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.root
@pytest.mark.parametrize("options", [("-n", "0"), ("-n", "2", "--dist", "loadfile")])
def test_a_missing_program_fails_the_run_as_root(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Once and by name, from one process as from two, though no test failed."""
    done = run(tmp_path, LACKING, *options)
    assert done.returncode == 1
    assert "1 passed, 1 skipped" in done.stdout
    assert done.stdout.count("test_lacking.py::test_one needs no-such-program") == 1


def test_what_a_failed_test_leaves_fails_no_other(tmp_path: Path) -> None:
    """It is closed before the next one begins, and its warning is nobody's."""
    done = run(tmp_path, LEAVING)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
