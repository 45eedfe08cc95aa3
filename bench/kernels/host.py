"""What of this machine is needed: programs, and a cache where everything that is made stays."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from segue.errors import NotSupported, UsageError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Program or file -> the Debian package that has it.
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    KEYRING: "debian-archive-keyring",
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue-kernels"


def check() -> None:
    """Raises NotSupported: in one sentence, what is missing here and how to get it."""
    if platform.machine() != "x86_64":
        raise NotSupported("bench kernels", "an x86-64 machine", platform.machine())
    missing = {name: package for name, package in NEEDED.items() if not _has(name)}
    if missing:
        needs = f"{', '.join(missing)} (apt-get install {' '.join(missing.values())})"
        raise NotSupported("bench kernels", needs, "not installed")
    if os.geteuid() != 0:
        raise NotSupported("bench kernels", "root, for debootstrap", f"user {os.geteuid()}")


def _has(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else shutil.which(name) is not None


def claim(cache: Path) -> None:
    """This process alone uses the cache until it ends.  Raises UsageError when another does."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another bench kernels uses {cache}: wait, or name another --cache"
        ) from None
    except OSError as error:
        raise UsageError(f"the cache {cache} cannot be used: {error.strerror}") from None


def tell(words: str) -> None:
    """Say what is being done, since some of it takes minutes."""
    print(f"bench kernels: {words}", flush=True)


def call(argv: Sequence[str], *, cwd: Path | None = None, **env: str) -> str:
    """What a program prints.  Raises RuntimeError, with its last words, when it fails."""
    done = subprocess.run(
        ["nice", *argv],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise RuntimeError(f"{argv[0]} {argv[1] if len(argv) > 1 else ''} failed: {said}")
    return done.stdout
