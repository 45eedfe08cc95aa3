"""What docs/LINUX.md says of Linux shows on this kernel, when the file beside it is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from segue.lab.sides import linux_here, unlike_until
from segue.model.profile import Difference

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path.stem for path in (ROOT / "examples" / "linux").glob("[!_]*.py"))
SHOWS, DOES_NOT, NOT_NOW = 0, 1, 2


def run(name: str) -> subprocess.CompletedProcess[str]:
    """As a reader would: the file alone, with no path to this project."""
    return subprocess.run(
        [sys.executable, "-I", str(ROOT / "examples" / "linux" / f"{name}.py")],
        capture_output=True, text=True, timeout=100, check=False, cwd="/",
    )  # fmt: skip


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("count", marks=pytest.mark.kernel("5.14")),
        "drops",
        pytest.param("echo", marks=pytest.mark.kernel("6.15")),
        pytest.param("key", marks=pytest.mark.kernel("5.14")),
        pytest.param("program", marks=pytest.mark.kernel("5.14")),
    ],
)
def test_it_shows(name: str) -> None:
    """The exit code says so; what was printed is in the failure."""
    done = run(name)
    assert (done.returncode, done.stderr) == (SHOWS, ""), done.stdout


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_the_slots_stay_where_the_model_says_so() -> None:
    """On 6.18, and not on 7.3."""
    done = run("slots")
    stays = Difference.FAST_OPEN_SLOT_STAYS in linux_here()
    assert (done.returncode, done.stderr) == (SHOWS if stays else DOES_NOT, ""), done.stdout


@pytest.mark.root
def test_the_minutes_after_boot() -> None:
    """At any other time it says that it cannot show it, and the counter stays."""
    done = run("boot")
    assert done.stderr == ""
    uptime = float(done.stdout.split()[0])
    if unlike_until(uptime):
        assert done.returncode in {SHOWS, NOT_NOW}, done.stdout
    else:
        assert done.returncode == NOT_NOW
        assert "SyncookiesFailed +0" in done.stdout


def test_each_has_its_section() -> None:
    """With the kernels, the function, the effect, what Segue does, and a mend."""
    text = (ROOT / "docs" / "LINUX.md").read_text()
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    named = {section.partition("\n")[0]: section for section in sections}
    assert [name for name in FILES if name not in named] == []
    for name in FILES:
        assert f"python examples/linux/{name}.py" in named[name]
        for row in ("Seen on", "Where", "Effect", "Segue", "A mend"):
            assert f"| {row} |" in named[name], (name, row)
