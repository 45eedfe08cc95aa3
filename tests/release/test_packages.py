"""The wheel and the sdist: made, installed without a network, used, upgraded while it serves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from docs.generate.man import pages
from tests.supervisor.instance import ROOT, Instance, load, wait_for_load

from segue.version import VERSION

SOURCES = ("src", "docs", "pyproject.toml", "README.md", "LICENSE", "LICENSE.MIT")


def build(source: Path, to: Path, *what: str) -> list[Path]:
    """What hatchling makes of a source tree, by name.  It is here, and nothing is fetched."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(to), str(source)],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    return sorted(to.iterdir())


def newer(source: Path, version: str) -> None:
    """A copy of the project that says it is of this version."""
    source.mkdir()
    for name in SOURCES:
        whole = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        whole(ROOT / name, source / name)
    home = source / "src" / "segue" / "version.py"
    changed, times = re.subn(r'VERSION = ".*"', f'VERSION = "{version}"', home.read_text())
    assert times == 1
    home.write_text(changed)


class Installed:
    """An environment of its own with Segue from a wheel, and with its dependencies."""

    def __init__(self, directory: Path, *, dependencies: tuple[str, ...]) -> None:
        self.python = str(directory / "bin" / "python")
        self.segue = str(directory / "bin" / "segue")
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True, timeout=60
        )
        self.site = self._site()
        here = Path(sysconfig.get_path("purelib"))
        for name in dependencies:
            (self.site / name).symlink_to(here / name)

    def _site(self) -> Path:
        words = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return Path(self._run(self.python, "-c", words).strip())

    def install(self, wheel: Path) -> None:
        """As pip does it where there is no index."""
        self._run(
            sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet",
            "--disable-pip-version-check", "--no-index", "--no-deps", "--upgrade", str(wheel),
        )  # fmt: skip

    def _run(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, as from a shell that knows nothing of this project."""
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            words, cwd="/", env=env, check=False, capture_output=True, text=True, timeout=60
        )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist of what is here."""
    to = tmp_path_factory.mktemp("dist")
    build(ROOT, to)
    return to


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture
def installed(tmp_path: Path, wheel: Path) -> Installed:
    """With the dependencies of the core alone."""
    core = ("click", "rich", "pygments", "markdown_it", "mdurl")
    made = Installed(tmp_path / "environment", dependencies=core)
    made.install(wheel)
    return made


def test_the_wheel_has_what_the_tree_has_and_no_more(wheel: Path) -> None:
    """Each file of src/segue, the man pages and the licences; the name says the version."""
    assert wheel.name == f"segue-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if not name.startswith("segue-")}
        shown = {Path(name).name for name in packed.namelist() if name.endswith(".1")}
        about = {Path(name).name for name in packed.namelist() if name.startswith("segue-")}
    tree = ROOT / "src"
    here = {
        str(path.relative_to(tree))
        for path in (tree / "segue").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == here
    assert shown == pages().keys()
    assert {"LICENSE", "LICENSE.MIT", "METADATA", "entry_points.txt"} <= about


def test_the_sdist_makes_the_same_wheel(dist: Path, wheel: Path, tmp_path: Path) -> None:
    """And it has the tests, the documents and the Makefile."""
    with tarfile.open(next(dist.glob("*.tar.gz"))) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / f"segue-{VERSION}"
    for name in ("tests", "bench", "docs", "deploy", "examples", "Makefile", "CHANGELOG.md"):
        assert (source / name).exists(), name
    again = build(source, tmp_path / "out", "--wheel")[0]
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {
            i.filename: i.CRC for i in other.infolist()
        }


def test_it_is_installed_without_a_network(installed: Installed) -> None:
    """The program is there, says its version, and reads the kernel; its man pages are there."""
    said = installed.run(installed.segue, "--version")
    assert said.stdout.startswith(f"segue {VERSION}"), said.stderr
    doctor = installed.run(installed.segue, "doctor", "--json")
    assert '"engines"' in doctor.stdout, doctor.stderr
    page = Path(installed.python).parents[1] / "share" / "man" / "man1" / "segue-run.1"
    assert f'"segue {VERSION}"' in page.read_text()


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_without_an_extra_its_command_names_it(
    netns: int, tmp_path: Path, installed: Installed
) -> None:
    """One sentence with what to install, and 1; what needs no extra works."""
    with Instance(tmp_path, python=installed.python) as one:
        one.wait_serving()
        done = installed.run(installed.segue, "metrics", "--control", one.control, "--once")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "pip install 'segue[metrics]'" in done.stderr
        once = installed.run(installed.segue, "watch", "--control", one.control, "--once")
        assert once.returncode == 0, once.stderr


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_a_running_supervisor_becomes_the_next_version(
    netns: int, tmp_path: Path, installed: Installed
) -> None:
    """The next version is installed over this one; after reexec it serves on, and loses nobody."""
    source = tmp_path / "source"
    newer(source, "99.1")
    (next_wheel,) = build(source, tmp_path / "next", "--wheel")
    with Instance(tmp_path, "--workers", "2", python=installed.python) as one:
        one.wait_serving(workers=2)
        with load() as finish:
            wait_for_load()
            installed.install(next_wheel)
            assert installed.run(installed.segue, "--version").stdout.startswith("segue 99.1")
            shown = installed.run(installed.segue, "status", "--control", one.control)
            assert f"the supervisor runs {VERSION}: segue reexec" in shown.stdout, shown
            assert one.ask("reexec")["exit"] == 0
            assert "new code" in one.said()
            wait_for_load()
            # The new code starts workers too.
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(generation=2, workers=2)
            assert one.status()["version"] == "99.1"
            found = finish()
        assert found.lost == 0, found
