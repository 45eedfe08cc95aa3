"""Debian's kernels, by apt and from the mirror that apt uses here; nothing is installed.

Each suite has lists of its own in the cache, since this host's apt knows only its own suite.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.kernels.host import KEYRING, call, tell
from segue.errors import UsageError

ELSEWHERE = "http://deb.debian.org/debian"
# The kernels for virtual machines: a tenth of the size, and all that is needed here.
_IMAGE = re.compile(r"linux-image-\d.*-cloud-amd64")
# What an image's package may leave to others (from Linux 6.19 on).
_PARTS = re.compile(r"Depends: (linux-(?:binary|modules)-\S+)")
_NAME = re.compile(r"newest|\d+\.\d+(\.\d+)?")

# Where to look for a plain version.  Any other branch is in the suites of _LATER, or was.
_SUITES = {
    "5.10": ("bullseye",),
    "6.1": ("bookworm",),
    "6.12": ("trixie", "bookworm-backports"),
}
_LATER = ("trixie-backports", "sid")


@dataclass(frozen=True, slots=True)
class Offer:
    """A kernel that a suite has."""

    suite: str
    package: str
    version: str  # Debian's, such as 6.1.170-3

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the version, to compare by."""
        return tuple(int(one) for one in re.findall(r"\d+", self.version))

    @property
    def kernel(self) -> str:
        """The kernel's own version, such as 6.1.170."""
        return re.split(r"[-~+]", self.version, maxsplit=1)[0]


def suites(name: str) -> tuple[str, ...]:
    """Where the kernel of this name may be.  Raises UsageError for what is no name."""
    suite, slash, package = name.partition("/")
    if slash and suite.replace("-", "").isalnum() and _IMAGE.fullmatch(package):
        return (suite,)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"no kernel {name!r}: write a version (6.1, 6.1.170), newest, or Debian's"
            " SUITE/PACKAGE (bookworm/linux-image-6.1.0-47-cloud-amd64)"
        )
    branch = ".".join(name.split(".")[:2])
    return _SUITES.get(branch, _LATER)


def choose(name: str, offers: Sequence[Offer]) -> Offer:
    """The newest offer that has this name.  Raises UsageError, with what there is instead."""
    fitting = [one for one in offers if _fits(name, one)]
    if not fitting:
        there = sorted({one.kernel: one.numbers for one in offers}.items(), key=lambda one: one[1])
        listed = ", ".join(kernel for kernel, _ in there) or "none"
        raise UsageError(f"Debian does not offer the kernel {name} (it has {listed})")
    return max(fitting, key=lambda one: one.numbers)


def _fits(name: str, offer: Offer) -> bool:
    if "/" in name:
        return name == f"{offer.suite}/{offer.package}"
    return name == "newest" or f"{offer.kernel}.".startswith(f"{name}.")


class Archive:
    """The archive of one suite, with its lists in the cache."""

    def __init__(self, cache: Path, suite: str) -> None:
        self.suite = suite
        self.packages = cache / "packages"
        self._home = cache / "apt" / suite
        self._options = [
            *("-o", f"Dir::Etc::sourcelist={self._home}/sources.list"),
            *("-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={self._home}/lists"),
            *("-o", "Dir::State::status=/dev/null"),
            *("-o", f"Dir::Cache={self._home}"),
            *("-o", "APT::Architecture=amd64"),
            *("-o", "APT::Sandbox::User=root"),
        ]

    def update(self) -> None:
        """Fetch the lists.  Raises RuntimeError."""
        tell(f"fetching the lists of {self.suite}")
        for name in ("lists/partial", "archives/partial"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        source = f"deb [signed-by={KEYRING} check-valid-until=no] {mirror()} {self.suite} main\n"
        (self._home / "sources.list").write_text(source)
        call(["apt-get", *self._options, "-q", "--error-on=any", "update"])

    def offers(self) -> list[Offer]:
        """Every kernel for virtual machines that it has.  Raises RuntimeError."""
        names = call(["apt-cache", *self._options, "pkgnames", "linux-image-"]).split()
        wanted = sorted(name for name in names if _IMAGE.fullmatch(name))
        if not wanted:
            return []
        shown = call(["apt-cache", *self._options, "show", "--no-all-versions", *wanted])
        found = re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", shown, re.MULTILINE | re.DOTALL)
        return [Offer(self.suite, package, version) for package, version in found]

    def download(self, offer: Offer) -> list[Path]:
        """The packages of a kernel, in the cache.  Raises RuntimeError."""
        said = call(["apt-cache", *self._options, "depends", offer.package])
        names = [offer.package, *_PARTS.findall(said)]
        self.packages.mkdir(exist_ok=True)
        tell(f"fetching {', '.join(names)}")
        call(["apt-get", *self._options, "-q", "download", *names], cwd=self.packages)
        return [max(self.packages.glob(f"{name}_*.deb")) for name in names]


def mirror() -> str:
    """Debian's archive as this host's apt has it; Debian's own where apt has another's."""
    told = call(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]
    )
    return next(iter(told.split()), ELSEWHERE).rstrip("/")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A kernel in the cache, unpacked."""

    name: str  # 6.1.170
    offer: Offer
    tree: Path


def fetch(name: str, cache: Path) -> Fetched:
    """Find a kernel by its name, and have it in the cache.  Raises UsageError, RuntimeError."""
    archives = {suite: Archive(cache, suite) for suite in suites(name)}
    offers: list[Offer] = []
    for archive in archives.values():
        archive.update()
        offers += archive.offers()
    offer = choose(name, offers)
    tree = cache / "kernels" / offer.package.removeprefix("linux-image-")
    marker = tree / "version"
    if not marker.exists() or marker.read_text() != offer.version:
        packages = archives[offer.suite].download(offer)
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        for package in packages:
            call(["dpkg-deb", "--extract", str(package), str(tree)])
        marker.write_text(offer.version)
    return Fetched(offer.kernel, offer, tree)
