"""The look for what tests leave behind: it finds what is ours, and nothing of anybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from segue.linux import netns as namespaces
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from tests import leaks
from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.root, pytest.mark.program("mount"), pytest.mark.program("umount")]


def array() -> Map:
    return Map.create(MapType.ARRAY, value_size=8, entries=1)


@contextmanager
def process(_: Path) -> Iterator[None]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as program:
        try:
            yield
        finally:
            program.communicate(b"", timeout=PATIENCE)


@contextmanager
def descriptor(_: Path) -> Iterator[None]:
    with array():
        yield


@contextmanager
def namespace(_: Path) -> Iterator[None]:
    found = namespaces.current()
    try:
        yield
    finally:
        os.close(found)


@contextmanager
def pin(_: Path) -> Iterator[None]:
    path = f"{leaks.PINS}/leaked"
    with array() as pinned:
        pinned.pin(path)
    try:
        yield
    finally:
        os.unlink(path)


@contextmanager
def mount(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "leaked", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize(
    ("leak", "kind", "named"),
    [
        (process, "processes", " cat"),
        (descriptor, "bpf objects", "bpf-map"),
        (namespace, "namespaces", "net:["),
        (pin, "pins", "/leaked"),
        (mount, "mounts", "/test_a_leak_is_found"),
    ],
)
def test_a_leak_is_found(
    leak: Callable[[Path], AbstractContextManager[None]], kind: str, named: str, tmp_path: Path
) -> None:
    """Just the one thing, by its kind and its name; and no more once it is gone."""
    before = leaks.present(isolated=True)
    with leak(tmp_path):
        found = leaks.more(before, leaks.present(isolated=True))
        assert list(found) == [kind]
        (only,) = found[kind]
        assert named in only
    assert leaks.more(before, leaks.present(isolated=True)) == {}


def test_what_another_one_makes_is_not_ours(tmp_path: Path) -> None:
    """A process beside us, in a mount namespace of its own as every run of the suite has it."""
    before = leaks.present(isolated=True)
    (tmp_path / "other").mkdir()
    other = (
        "from tests import leaks; from tests.test_leaks import array\n"
        "import subprocess, sys\n"
        "assert leaks.isolate()\n"
        "array().pin(f'{leaks.PINS}/others')\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'others', sys.argv[1]], check=True)\n"
        "print(); sys.stdin.read()"
    )
    command = [sys.executable, "-c", other, str(tmp_path / "other")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as beside:
        assert beside.stdout is not None
        assert beside.stdout.readline() == b"\n"
        found = leaks.more(before, leaks.present(isolated=True))
        beside.communicate(b"", timeout=PATIENCE)
    assert list(found) == ["processes"]  # a child of ours, and nothing that it made
