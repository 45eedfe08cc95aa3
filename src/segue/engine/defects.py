"""Kernels whose migration is known to be broken, by version (the live test finds what it can).

CVE-2026-46015: a migrated child does not wake the listener it came to; the live test sees it, so
the version is only told.  CVE-2024-53206: a migrated request that then times out is freed twice;
no test can look for memory corruption, so the version decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, ...]

# [from, to): first affected version of a branch and first mended one.
UNWOKEN: tuple[tuple[Version, Version], ...] = (
    ((5, 14, 0), (5, 15, 209)),
    ((5, 16, 0), (6, 1, 175)),
    ((6, 2, 0), (6, 6, 140)),
    ((6, 7, 0), (6, 12, 86)),
    ((6, 13, 0), (6, 18, 27)),
    ((6, 19, 0), (7, 0, 4)),
)
# The fix of CVE-2024-50154 brought it in October and November 2024; the lower ends are those of
# the stable releases that carried that fix.
FREED_TWICE: tuple[tuple[Version, Version], ...] = (
    ((5, 15, 169), (5, 15, 174)),
    ((6, 1, 114), (6, 1, 120)),
    ((6, 6, 59), (6, 6, 64)),
    ((6, 11, 6), (6, 11, 11)),
    ((6, 12, 0), (6, 12, 2)),
)
_UEK_MENDED: Version = (5, 15, 0, 304, 171, 4)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel release: its upstream version, and the build where the distribution counts own."""

    release: str
    version: Version
    build: Version

    @classmethod
    def parse(cls, release: str) -> Kernel | None:
        """Read what uname(2) gives; None when it starts with no version."""
        found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
        if found is None:
            return None
        version = tuple(int(part or 0) for part in found.groups())
        build = tuple(int(part) for part in re.findall(r"\d+", release.split(".el", maxsplit=1)[0]))
        return cls(release, version, build)

    def within(self, spans: tuple[tuple[Version, Version], ...]) -> bool:
        """The upstream version is in one of these spans."""
        return any(first <= self.version < mended for first, mended in spans)


def wakes(kernel: Kernel) -> str | None:
    """What is known of CVE-2026-46015 for this kernel; None when it is not affected."""
    if kernel.within(UNWOKEN):
        return f"Linux {kernel.release} may not wake who a connection migrates to (CVE-2026-46015)"
    return None


def forbids_migration(kernel: Kernel) -> str | None:
    """Why this kernel must not migrate, or None.

    Distributions that count their own builds on a frozen upstream version (Debian's and RHEL's
    carry the stable number elsewhere or backport by hand) are judged by that version only.
    """
    if "uek" in kernel.release and kernel.version[:2] == (5, 15):
        if (5, 15, 0, 304) <= kernel.build < _UEK_MENDED:
            return f"Linux {kernel.release} frees a migrated request twice (CVE-2024-53206)"
        return None
    if kernel.within(FREED_TWICE):
        return f"Linux {kernel.release} frees a migrated request twice (CVE-2024-53206)"
    return None
