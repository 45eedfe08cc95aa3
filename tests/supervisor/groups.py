"""A control group that is made for one test, in which processors are shared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import wait_until

from segue.linux import cgroup


@pytest.fixture
def delegated() -> Iterator[Path]:
    """Its directory; it is gone at the end.  Version 2 has it where the root shares processors."""
    above = cgroup.of(os.getpid(), "cpu") or cgroup.of(os.getpid())
    if above is None:
        pytest.skip("no control groups are mounted")
    path = Path(above, f"segue.test.{os.getpid()}")
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made in {above}: {error.strerror}")
    try:
        if not (path / "cpu.idle").exists():
            pytest.skip(f"groups in {above} do not have cpu.idle (Linux 5.15, controller cpu)")
        yield path
    finally:
        wait_until(lambda: all(map(_removed, [*below(path), path])), f"nobody in {path}")


def _removed(path: Path) -> bool:
    return cgroup.remove_empty(str(path))


def below(path: Path) -> list[Path]:
    """The groups in it."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(one for one in path.iterdir() if one.is_dir())
    return []


def idle(path: Path) -> dict[str, bool]:
    """The groups in it, by the end of their names: the worker -> whether it is idle."""
    names = {one: one.name.rpartition(".")[2] for one in below(path)}
    # A supervisor that starts makes one for a moment, to see whether it can.
    workers = {one: name for one, name in names.items() if name.startswith("w")}
    return {name: cgroup.is_idle(str(one)) for one, name in workers.items()}
