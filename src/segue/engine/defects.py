"""Kernels whose migration is known to be broken, by version (the live test finds what it can).

CVE-2026-46015: a migrated child does not wake the listener it came to.  The live test sees that, so
the version only explains it.  CVE-2024-53206: a migrated request that then times out is freed
twice.  No test can look for memory corruption, so the version decides.
"""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass

from segue.linux.features import Answer, Finding

Version = tuple[int, ...]
Spans = tuple[tuple[Version, Version], ...]

# [from, to): first affected version of a branch and first mended one.
UNWOKEN: Spans = (
    ((5, 14, 0), (5, 15, 209)),
    ((5, 16, 0), (6, 1, 175)),
    ((6, 2, 0), (6, 6, 140)),
    ((6, 7, 0), (6, 12, 86)),
    ((6, 13, 0), (6, 18, 27)),
    ((6, 19, 0), (7, 0, 4)),
)
# The fix of CVE-2024-50154 brought it in October and November 2024; the lower ends are those of
# the stable releases that carried that fix.
FREED_TWICE: Spans = (
    ((5, 15, 169), (5, 15, 174)),
    ((6, 1, 114), (6, 1, 120)),
    ((6, 6, 59), (6, 6, 64)),
    ((6, 11, 6), (6, 11, 11)),
    ((6, 12, 0), (6, 12, 2)),
)
_UEK_MENDED: Version = (5, 15, 0, 304, 171, 4)

_SIGNATURE = "/proc/version_signature"
# Where a distribution says which stable release its own count stands for: Debian in uname -v
# ("Debian 6.1.119-1"), Ubuntu in a file ("Ubuntu 5.15.0-126.136-generic 5.15.167").
_STABLE_RELEASE = re.compile(
    r"Debian (\d+)\.(\d+)\.(\d+)|^Ubuntu \S+ (\d+)\.(\d+)\.(\d+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class KernelRelease:
    """A kernel release: its upstream version, and the build where the distribution counts own.

    A *frozen* one keeps the first version of its branch for years, while fixes, and the defects
    they bring, are added by hand: its version says nothing of them.
    """

    release: str
    version: Version
    build: Version
    frozen: bool = False

    @classmethod
    def parse(cls, release: str, details: str = "") -> KernelRelease | None:
        """Read what uname(2) gives; None when it starts with no version.

        ``details`` is what else the system says of its kernel, a line each: uname -v and
        /proc/version_signature.
        """
        found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(-\d)?", release)
        if found is None:
            return None
        version = tuple(int(part or 0) for part in found.groups()[:3])
        frozen = version[2] == 0 and found[4] is not None
        build = tuple(int(part) for part in re.findall(r"\d+", release.split(".el", maxsplit=1)[0]))
        stable = _STABLE_RELEASE.search(details)
        if frozen and stable:
            exact = tuple(int(part) for part in stable.groups() if part)
            if exact[:2] == version[:2]:
                version, frozen = exact, False
        return cls(release, version, build, frozen)

    @classmethod
    def running(cls) -> KernelRelease | None:
        """This host's."""
        details = [platform.version()]
        with (
            contextlib.suppress(OSError),
            open("/proc/version_signature", encoding="ascii") as file,
        ):
            details.append(file.read())
        return cls.parse(platform.release(), "\n".join(details))

    def within(self, spans: Spans) -> bool:
        """The upstream version is in one of these spans."""
        return any(first <= self.version < mended for first, mended in spans)


def unwoken(kernel: KernelRelease) -> Finding:
    """CVE-2026-46015: the worker that a connection migrates to may not wake."""
    about = (
        f"Linux {kernel.release} may not wake the worker that a connection migrates to"
        " (CVE-2026-46015)"
    )
    return _judge(kernel, UNWOKEN, about)


def freed_twice(kernel: KernelRelease) -> Finding:
    """CVE-2024-53206: memory is corrupted when a migrated request times out."""
    about = f"Linux {kernel.release} frees a migrated request twice (CVE-2024-53206)"
    if "uek" in kernel.release and kernel.version[:2] == (5, 15):
        affected = (5, 15, 0, 304) <= kernel.build < _UEK_MENDED
        return Finding(Answer.YES if affected else Answer.NO, about)
    return _judge(kernel, FREED_TWICE, about)


def _judge(kernel: KernelRelease, spans: Spans, about: str) -> Finding:
    if kernel.frozen and kernel.version[:2] >= (5, 14) and kernel.version < spans[-1][1]:
        doubt = f"it is not known whether {about}: its distribution counts its own fixes"
        return Finding(Answer.COULD_NOT_TELL, doubt)
    return Finding(Answer.YES if kernel.within(spans) else Answer.NO, about)


def wakes(kernel: KernelRelease) -> str | None:
    """What is known of CVE-2026-46015 for this kernel; None when it is not affected."""
    found = unwoken(kernel)
    return None if found.answer is Answer.NO else found.reason


def forbids_migration(kernel: KernelRelease) -> str | None:
    """Why this kernel must not migrate, or None."""
    found = freed_twice(kernel)
    return found.reason if found.answer is Answer.YES else None


def doubts(kernel: KernelRelease) -> str | None:
    """What may speak against migration; None when the version settles it."""
    found = freed_twice(kernel)
    return found.reason if found.answer is Answer.COULD_NOT_TELL else None
