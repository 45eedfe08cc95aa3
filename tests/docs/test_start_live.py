"""The pages of Start do what they say: their files, their commands, and what is seen then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, Block, blocks
from tests.waiting import PATIENCE, wait_until

from segue.errors import SegueError
from segue.supervisor.control.client import converse

START = ROOT / "docs" / "start"
OVERVIEW = ROOT / "docs" / "OVERVIEW.md"
# Programs that a page needs, beyond those that the tests install.  The suite does not ask for them.
RARE = {"node": "node", "go": "go"}
PAGES = [one.stem for one in START.glob("*.md") if one.stem not in RARE] + [
    page for page, program in RARE.items() if shutil.which(program)
]
# Less load than a person would look at, for the same report.
SHORT = " --rate 25 --steady 0.5 --settle 0.5"

pytestmark = pytest.mark.kernel("5.15")


def shape(line: str) -> str:
    """A line of output without what differs from run to run."""
    return re.sub(r"\d[\d.,]*", "0", " ".join(line.split()))


def console(page: Path) -> list[Block]:
    """The blocks in which something is typed."""
    return [one for one in blocks(page.read_text()) if one.language == "console"]


@dataclass(slots=True)
class Shell:
    """A person's shells: ``segue run`` in one, everything else in another."""

    where: Path
    files: Path  # of Segue
    run: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """Where segue and the servers are found, and a home of our own."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(self.files), "SEGUE_DIRECTORY": str(self.files / "run")}
        return {**os.environ, **own, "COLUMNS": "120"}

    def serves(self) -> bool:
        """The instance has workers that serve, and starts no others."""
        assert self.run is not None
        assert self.run.poll() is None, (self.files / "output").read_text()
        control = str(self.files / "run" / "127.0.0.1_8080.sock")
        with suppress(SegueError):  # its socket is not there, or nobody listens at it yet
            status = converse(control, {"do": "status"}, lambda _: None).get("status", {})
            return status.get("phase") == "serving" and not status.get("newcomer")
        return False

    def type(self, line: str) -> str:
        """Run one line; what it printed.  AssertionError if it fails."""
        if line.startswith("segue run "):
            with open(self.files / "output", "w") as output:
                self.run = subprocess.Popen(
                    ["sh", "-c", f"exec {line}"], cwd=self.where, env=self.env, stdout=output,
                    stderr=output, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            wait_until(self.serves, f"{line} serves")
            return ""
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.where, env=self.env, check=False, timeout=100,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


@contextmanager
def shell(where: Path, files: Path) -> Iterator[Shell]:
    """A shell in a directory; its instance is stopped at the end."""
    files.chmod(0o755)  # workers of nginx are another user's
    made = Shell(where, files)
    try:
        yield made
    finally:
        if made.run is not None and made.run.poll() is None:
            made.run.terminate()
            made.run.wait()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.program("nginx")
def test_a_page_does_what_it_says(page: str, netns: int, tmp_path: Path) -> None:
    """Each command succeeds, and prints what the page shows, apart from numbers."""
    path = START / f"{page}.md"
    for one in blocks(path.read_text()):
        if one.title:
            (tmp_path / one.title).write_text(one.text)
    with shell(tmp_path, tmp_path) as typing:
        for block in console(path):
            lines = [one + SHORT if one.startswith("segue probe ") else one for one in block.lines]
            seen = "".join(typing.type(line) for line in lines)
            shapes = {shape(one) for one in seen.splitlines()}
            assert [one for one in block.printed if shape(one) not in shapes] == [], seen
        assert typing.run is not None
        assert typing.run.wait(PATIENCE) == 0


@pytest.mark.root
@pytest.mark.slow
def test_the_commands_at_a_glance_go_together(netns: int, tmp_path: Path) -> None:
    """One after the other, as they stand there; only what would not end is left out."""
    first, second = console(OVERVIEW)[:2]
    with shell(ROOT, tmp_path) as typing:
        for line in (*first.lines, *second.lines):
            command = line.partition(" #")[0].rstrip()
            if command.startswith("segue metrics"):
                continue
            typing.type(command + SHORT if command.startswith("segue probe ") else command)
        assert typing.run is not None
        assert typing.run.wait(PATIENCE) == 0


def test_every_page_ends_with_the_proof() -> None:
    """A probe during a restart that fails if anything is lost, and then a stop."""
    for page in START.glob("*.md"):
        lines = [line for block in console(page) for line in block.lines]
        assert [line.split()[1] for line in lines if line.startswith("segue")] == [
            *("run", "probe", "status", "stop"),
        ], page
        assert any("--during 'segue restart' --fail-on-loss" in line for line in lines)


def test_a_shape_has_no_numbers() -> None:
    """Words and their order stay."""
    assert shape("none lost of 1,082 in 10.8 s,  100/s") == "none lost of 0 in 0 s, 0/s"
