"""How the suite itself is run: what is missing fails it, also from many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFTEST = "from tests.conftest import *"
MARKERS = "[pytest]\nmarkers =\n    program(name): needs it\n"
LACKING = """
import pytest
@pytest.mark.program("no-such-program")
def test_one(): ...
def test_another(): ...
"""


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The suite's own rules over two tests, one of which lacks its program."""
    (directory / "pytest.ini").write_text(MARKERS)
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_lacking.py").write_text(LACKING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(directory)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=directory, env=env, check=False, capture_output=True, text=True, timeout=60
    )


@pytest.mark.root
@pytest.mark.parametrize("options", [("-n", "0"), ("-n", "2", "--dist", "loadfile")])
def test_a_missing_program_fails_the_run_as_root(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Once and by name, from one process as from two, though no test failed."""
    done = run(tmp_path, *options)
    assert done.returncode == 1
    assert "1 passed, 1 skipped" in done.stdout
    assert done.stdout.count("test_lacking.py::test_one needs no-such-program") == 1
