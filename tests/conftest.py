"""What every test may ask for, and the rule that a skip is a claim to be checked."""

from __future__ import annotations

import gc
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from segue.linux import netns as namespaces
from tests import leaks

# A deadline would be an upper bound on a time, which a busy machine does not keep.
hypothesis.settings.register_profile("segue", deadline=None)
hypothesis.settings.load_profile("segue")

# Who starts the tests by nohup has SIGHUP ignored.  segue run respects that, and so the tests of
# SIGHUP would wait for what never comes.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_missing: list[str] = []


def running_kernel() -> tuple[int, ...]:
    """The running kernel as numbers, such as (6, 18)."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    assert found
    return int(found[1]), int(found[2])


def urgency(item: pytest.Item) -> int:
    """0 for slow tests, 1 for those that start servers, 2 for the rest."""
    if item.get_closest_marker("slow"):
        return 0
    return 1 if item.get_closest_marker("root") else 2


def why_not(item: pytest.Item) -> str | None:
    """The reason why this test cannot run here, or None."""
    # The closest counts: a module that needs more may have a test that needs less.
    mark = item.get_closest_marker("kernel")
    if mark is not None:
        minimum = tuple(int(part) for part in str(mark.args[0]).split("."))
        if running_kernel() < minimum:
            return f"needs Linux {mark.args[0]}"
    if item.get_closest_marker("root") and os.geteuid() != 0:
        return "needs root"
    for mark in item.iter_markers("program"):
        if shutil.which(mark.args[0]) is None:
            if os.geteuid() == 0:
                _missing.append(f"{item.nodeid} needs {mark.args[0]}")
            return f"needs the program {mark.args[0]}"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the markers into skips; which of them count as failures is told at the end.

    Where processes share the tests, what takes longest is begun first, so that at the end none
    works alone.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=urgency)
    for item in items:
        reason = why_not(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """No garbage collection looks at what was collected: it stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """What a test that failed has left open is closed before the next one begins.

    Its traceback holds it until then. The warnings of its end would fail another test, and a
    count of descriptors there would be wrong.
    """
    failed = item.session.testsfailed
    result = yield
    if item.session.testsfailed > failed:
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a process of ``pytest -n`` could not run is told in the one that reports."""
    _missing.extend(getattr(node, "workeroutput", {}).get("missing", []))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """As root everything can be installed, so a test that lacks a program fails the run."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["missing"] = _missing
    elif _missing and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nAs root a skip is a failure:", *sorted(set(_missing)), sep="\n  ")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After the last test nothing of ours is there that was not there before."""
    isolated = leaks.isolate()
    before = leaks.present(isolated=isolated)
    yield
    left = leaks.more(before, leaks.present(isolated=isolated))
    assert not left, f"left behind: {left}"


@pytest.fixture
def bpf_directory(tmp_path: Path) -> Iterator[str]:
    """A bpf file system of this test's own."""
    where = tmp_path / "bpf"
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    yield str(where)
    subprocess.run(["umount", str(where)], check=True)


@pytest.fixture
def netns() -> Iterator[int]:
    """A network namespace of this test's own, loopback up; yields its descriptor."""
    with namespaces.fresh() as inside:
        yield inside
