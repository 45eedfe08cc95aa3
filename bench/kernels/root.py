"""The root file system that every kernel boots: Debian, and the project's programs in /venv.

The project itself is not of it: each boot brings the one at HEAD.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from bench.harness import ROOT
from bench.kernels.fetch import mirror
from bench.kernels.host import KEYRING, call, tell

_SUITE = "bookworm"
_PYTHON = "3.11"  # the suite's
# What the tests call, and what they look at the system with.
_PACKAGES = (
    *("python3", "python3-venv", "iproute2", "procps", "kmod", "mount", "util-linux"),
    *("curl", "openssl", "nginx-light"),
)
# What builds the project where no index is to be had.
_BUILD = ("pip>=25.1", "hatchling>=1.27", "editables")
_SPARE_MIB = 300


def image(cache: Path) -> Path:
    """The file system's image, made if what it is made of has changed.  Raises RuntimeError."""
    made_of = (ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()
    path = cache / f"root-{hashlib.sha256(made_of).hexdigest()[:12]}.img"
    if not path.exists():
        for old in cache.glob("root-*.img"):
            old.unlink()
        with tempfile.TemporaryDirectory(prefix="root.", dir=cache) as directory:
            _make(Path(directory) / "tree", _wheels(cache), path)
    return path


def project(to: Path) -> None:
    """A tar of the project at HEAD.  Raises RuntimeError."""
    call(["git", "-C", str(ROOT), "archive", "--format=tar", "-o", str(to), "HEAD"])


def _wheels(cache: Path) -> Path:
    """The dev group, by pip and from the index that pip uses here."""
    tell("fetching the packages of the dev group")
    wheels = cache / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [*(sys.executable, "-m", "pip", "download", "--quiet"), *("--dest", str(wheels))]
    pip += ["--python-version", _PYTHON, "--only-binary", ":all:"]
    call([*pip, *_BUILD, "--group", "dev", "click", "rich"], cwd=ROOT)
    return wheels


def _make(tree: Path, wheels: Path, path: Path) -> None:
    tell(f"making the root file system ({_SUITE}), which takes some minutes")
    call(
        [
            *("debootstrap", "--variant=minbase", f"--keyring={KEYRING}"),
            *(f"--include={','.join(_PACKAGES)}", _SUITE, str(tree), mirror()),
        ]
    )
    for name in ("segue", "job", "wheels"):
        (tree / name).mkdir()
    shutil.copytree(wheels, tree / "wheels", dirs_exist_ok=True)
    archive = tree / "project.tar"
    project(archive)
    inside = ("chroot", str(tree))
    pip = (*inside, "/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/wheels")
    call([*inside, "tar", "-C", "/segue", "-xf", "/project.tar"])
    call([*inside, "python3", "-m", "venv", "/venv"])
    call([*pip, *_BUILD])
    call([*pip, "--group", "/segue/pyproject.toml:dev"])
    call([*pip, "--no-build-isolation", "--editable", "/segue"])
    archive.unlink()
    for name in ("wheels", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(tree / name)
    _format(tree, path)


def _format(tree: Path, path: Path) -> None:
    size = int(call(["du", "-sm", str(tree)]).split()[0]) * 5 // 4 + _SPARE_MIB
    part = path.with_suffix(".part")
    try:
        call(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(part), f"{size}M"])
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
