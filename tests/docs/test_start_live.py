"""The pages of Start do what they say: their files, their commands, and what is seen then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, Block, blocks
from tests.supervisor.instance import PATIENCE, wait_until

from segue.supervisor.control.client import converse

START = ROOT / "docs" / "start"
# Programs that a page needs, beyond those that the tests install.  The suite does not ask for them.
RARE = {"node": "node", "go": "go"}
PAGES = [one.stem for one in START.glob("*.md") if one.stem not in RARE] + [
    page for page, program in RARE.items() if shutil.which(program)
]
# Less load than a person would look at, for the same report.
SHORT = " --rate 25 --steady 0.5 --settle 0.5"


def shape(line: str) -> str:
    """A line of output without what differs from run to run."""
    return re.sub(r"\d[\d.,]*", "0", " ".join(line.split()))


def console(page: str) -> list[Block]:
    """The blocks in which something is typed."""
    text = (START / f"{page}.md").read_text()
    return [one for one in blocks(text) if one.language == "console"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.kernel("5.15")
@pytest.mark.program("nginx")
def test_a_page_does_what_it_says(page: str, netns: int, tmp_path: Path) -> None:
    """Each command succeeds, and prints what the page shows, apart from numbers."""
    for one in blocks((START / f"{page}.md").read_text()):
        if one.title:
            (tmp_path / one.title).write_text(one.text)
    # Another user may run nginx's workers.
    tmp_path.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SEGUE_DIRECTORY": str(tmp_path / "run"), "COLUMNS": "120"}
    env["HOME"] = str(tmp_path)
    control = str(tmp_path / "run" / "127.0.0.1_8080.sock")

    def serves() -> bool:
        assert run is not None
        assert run.poll() is None, (tmp_path / "output").read_text()
        if not os.path.exists(control):
            return False
        status = converse(control, {"do": "status"}, lambda _: None).get("status", {})
        return status.get("phase") == "serving" and not status.get("newcomer")

    run: subprocess.Popen[bytes] | None = None
    try:
        for block in console(page):
            seen = ""
            for line in block.lines:
                if line.startswith("segue run "):
                    with open(tmp_path / "output", "w") as output:
                        run = subprocess.Popen(
                            ["sh", "-c", f"exec {line}"], cwd=tmp_path, env=env, stdout=output,
                            stderr=output, stdin=subprocess.DEVNULL,
                        )  # fmt: skip
                    wait_until(serves, f"{page} serves")
                    continue
                more = SHORT if line.startswith("segue probe ") else ""
                done = subprocess.run(
                    ["sh", "-c", line + more], cwd=tmp_path, env=env, check=False, timeout=100,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )  # fmt: skip
                assert done.returncode == 0, f"{line}\n{done.stdout}"
                seen += done.stdout
            shapes = {shape(one) for one in seen.splitlines()}
            assert [one for one in block.printed if shape(one) not in shapes] == [], seen
        assert run is not None
        assert run.wait(PATIENCE) == 0
    finally:
        if run is not None and run.poll() is None:
            run.terminate()
            run.wait()


def test_every_page_ends_with_the_proof() -> None:
    """A probe during a restart that fails if anything is lost, and then a stop."""
    for page in START.glob("*.md"):
        lines = [line for block in console(page.stem) for line in block.lines]
        assert [line.split()[1] for line in lines if line.startswith("segue")] == [
            *("run", "probe", "status", "stop"),
        ], page
        assert any("--during 'segue restart' --fail-on-loss" in line for line in lines)


def test_a_shape_has_no_numbers() -> None:
    """Words and their order stay."""
    assert shape("none lost of 1,082 in 10.8 s,  100/s") == "none lost of 0 in 0 s, 0/s"
