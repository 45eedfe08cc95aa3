"""What is in the repository: the project and nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A file at the top is the first that a reader sees, so each one is a decision.
TOP = {
    ".ci",
    ".gitignore",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "changes",
    "docs",
    "examples",
    "pyproject.toml",
    "src",
    "tests",
}
# Directories in which people and build machines keep their work, with something below them.
SOMEBODYS = re.compile(rb"(?<![\w.~}\]-])/(?:home|root|Users|work|workspace|builds?|tmp/\w+)/\w")

pytestmark = [
    pytest.mark.program("git"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy that git does not track"),
]


def tracked() -> list[str]:
    """The paths of all tracked files."""
    # The checkout may belong to another user, as in a container.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def machine_paths(content: bytes, checkout: Path = ROOT) -> list[bytes]:
    """The absolute paths of one machine in it: below somebody's directory, or of the checkout."""
    here = re.compile(re.escape(bytes(checkout)) + rb"(?![\w.-])")
    return [found[0] for found in (*SOMEBODYS.finditer(content), *here.finditer(content))]


def test_the_top_has_nothing_but_the_project() -> None:
    """Notes and results of somebody's work stay with them; a new name here changes the list."""
    assert {path.partition("/")[0] for path in tracked()} == TOP


def test_no_file_names_a_path_of_one_machine() -> None:
    """What is written here is true on every machine."""
    found = {
        path: paths
        for path in tracked()
        if (ROOT / path).is_file() and (paths := machine_paths((ROOT / path).read_bytes()))
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("see {home}/notes.txt", True),
        ("in {here}", True),
        ("in {here}-2", False),
        ("GET /home", False),
        ("https://example.org{home}/notes", False),
        ("/sys/kernel, /proc/1 and /run/segue are everybody's", False),
        ("{{directory}}{home}/notes", False),
    ],
)
def test_a_path_of_one_machine_is_recognised(text: str, is_one: bool) -> None:
    """Below a home or in the checkout; not a URL's path, nor a name that only begins alike."""
    checkout = Path("/srv/code/segue")
    written = text.format(home="/home" + "/somebody", here=checkout)
    assert bool(machine_paths(written.encode(), checkout)) is is_one
