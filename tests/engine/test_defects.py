"""Kernels by release string: which are broken how."""

from __future__ import annotations

import platform

import pytest

from segue.engine import defects
from segue.engine.defects import KernelRelease
from segue.linux.features import Answer


@pytest.mark.parametrize(
    ("release", "wakes", "forbidden"),
    [
        ("5.13.19", True, False),
        ("5.14.0", False, False),
        ("5.15.168", False, False),
        ("5.15.169", False, True),
        ("5.15.173-generic", False, True),
        ("5.15.174", False, False),
        ("5.15.208", False, False),
        ("5.15.209", True, False),
        ("6.1.113", False, False),
        ("6.1.114-1", False, True),
        ("6.1.119", False, True),
        ("6.1.120", False, False),
        ("6.1.175", True, False),
        ("6.6.58", False, False),
        ("6.6.59", False, True),
        ("6.6.63", False, True),
        ("6.6.64", False, False),
        ("6.11.5", False, False),
        ("6.11.6", False, True),
        ("6.11.11", False, False),
        ("6.12.1", False, True),
        ("6.12", False, True),
        ("6.12.2", False, False),
        ("6.12.86", True, False),
        ("6.13.0-rc1", False, False),
        ("6.18.26", False, False),
        ("6.18.27", True, False),
        ("6.18.44-fc-v669", True, False),
        ("6.19.0", False, False),
        ("7.0.4", True, False),
        ("7.1.0", True, False),
        ("5.15.0-303.171.5.el9uek.x86_64", False, False),
        ("5.15.0-304.171.3.el9uek.x86_64", False, True),
        ("5.15.0-304.171.4.el9uek.x86_64", False, False),
        ("5.15.0-305.1.el8uek.aarch64", False, False),
    ],
)
def test_the_table_of_releases(release: str, wakes: bool, forbidden: bool) -> None:
    """First affected and first mended release of every branch, on both sides of the border."""
    kernel = KernelRelease.parse(release)
    assert kernel is not None
    warned, refused = defects.wakes(kernel), defects.forbids_migration(kernel)
    assert (warned is None, refused is not None) == (wakes, forbidden)
    assert all(release in said for said in (warned, refused) if said)


DEBIAN = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)"
UBUNTU = "#136-Ubuntu SMP Wed Nov 6 10:38:22 UTC 2024\nUbuntu 5.15.0-126.136-generic 5.15.167\n"


@pytest.mark.parametrize(
    ("release", "told", "wake", "free"),
    [
        ("6.1.0-28-amd64", DEBIAN, Answer.YES, Answer.YES),
        ("6.1.0-29-amd64", DEBIAN.replace("119", "120"), Answer.YES, Answer.NO),
        ("6.1.0-99-amd64", DEBIAN.replace("119", "175"), Answer.NO, Answer.NO),
        ("5.15.0-126-generic", UBUNTU, Answer.YES, Answer.NO),
        ("5.15.0-127-generic", UBUNTU.replace("167", "170"), Answer.YES, Answer.YES),
        # Whose version says nothing, and nothing else does.
        ("5.14.0-503.11.1.el9_5.x86_64", "", Answer.COULD_NOT_TELL, Answer.COULD_NOT_TELL),
        ("6.12.0-55.el10.x86_64", "", Answer.COULD_NOT_TELL, Answer.COULD_NOT_TELL),
        ("6.8.0-49-generic", "#49-Ubuntu SMP", Answer.COULD_NOT_TELL, Answer.COULD_NOT_TELL),
        # What it tells of is another branch.
        ("5.15.0-126-generic", DEBIAN, Answer.COULD_NOT_TELL, Answer.COULD_NOT_TELL),
        # Before the mechanism, and after the mend.
        ("5.10.0-33-amd64", "", Answer.NO, Answer.NO),
        ("4.18.0-553.el8_10.x86_64", "", Answer.NO, Answer.NO),
        ("6.17.0-5-generic", "", Answer.COULD_NOT_TELL, Answer.NO),
        ("7.1.0-3-generic", "", Answer.NO, Answer.NO),
    ],
)
def test_what_a_distributions_count_says(
    release: str, told: str, wake: Answer, free: Answer
) -> None:
    """A version that is frozen says nothing, unless the system tells its stable release too."""
    kernel = KernelRelease.parse(release, told)
    assert kernel is not None
    assert (defects.unwoken(kernel).answer, defects.freed_twice(kernel).answer) == (wake, free)
    assert (defects.forbids_migration(kernel) is None) == (free is not Answer.YES)
    assert (defects.doubts(kernel) is None) == (free is not Answer.COULD_NOT_TELL)


def test_the_running_kernel_has_a_version() -> None:
    """It is that of uname, or the stable release of its branch."""
    kernel = KernelRelease.running()
    assert kernel is not None
    assert platform.release().startswith(".".join(str(part) for part in kernel.version[:2]))


def test_a_release_that_is_no_version() -> None:
    """None, and a version of two parts is one of three."""
    assert KernelRelease.parse("Darwin") is None
    assert KernelRelease.parse("") is None
    short = KernelRelease.parse("6.12-custom")
    assert short is not None
    assert short.version == (6, 12, 0)


@pytest.mark.parametrize("spans", [defects.UNWOKEN, defects.FREED_TWICE])
def test_spans_are_in_order_and_apart(spans: tuple[tuple[defects.Version, ...], ...]) -> None:
    """A span that ended before it began would match nothing and be missed by nobody."""
    flat = [version for span in spans for version in span]
    assert flat == sorted(set(flat))
