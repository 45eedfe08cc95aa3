"""Pins: all of a group's objects under one name, or none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.policy.clients import IPV4

from segue.engine.migrate import Migrate, cookies
from segue.engine.pinning import Pins
from segue.errors import KernelError, NotSupported, UsageError
from segue.linux.bpffs import is_bpffs
from segue.linux.sockopt import cookie, open_listener

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


def test_what_is_pinned_is_found_again(netns: int, bpf_directory: str) -> None:
    """Another process's steering from the pins: the same listeners, shares and counts."""
    pins = Pins("127.0.0.1_80@x", bpf_directory)
    pins.require()
    assert not pins.there()
    with open_listener(IPV4, backlog=8) as listener:
        with Migrate() as steering:
            pins.pin(steering)
            steering.join(3, listener)
            steering.share({3: 1})
        assert pins.there()
        with pins.table() as table:
            assert cookies(table) == {cookie(listener)}
        with Migrate.restore(pins.open()) as again:
            assert again.cookies() == {3: cookie(listener)}
            assert set(again.counts()) == {3, None}
    with pins.table() as table:
        assert cookies(table) == set()
    assert pins.remove()
    assert not pins.remove()
    assert os.listdir(f"{bpf_directory}/segue") == []
    assert stat.S_IMODE(os.stat(f"{bpf_directory}/segue").st_mode) == 0o700


def test_a_half_made_set_is_never_found(bpf_directory: str) -> None:
    """Whoever was killed while pinning leaves something that is made anew."""
    pins = Pins("t", bpf_directory)
    os.makedirs(f"{bpf_directory}/segue/:t")
    with Migrate() as steering:
        pins.pin(steering)
        assert os.listdir(f"{bpf_directory}/segue") == ["t"]
        with pytest.raises(KernelError, match="pinning to"):
            pins.pin(steering)  # the name is taken
    assert pins.remove()


def test_no_name_is_taken_for_a_half_made_set(bpf_directory: str) -> None:
    """Pins of one instance stay when another pins, whatever they are called."""
    other = Pins("t.new", bpf_directory)
    for pins in (other, Pins("t", bpf_directory)):
        with Migrate() as steering:
            pins.pin(steering)
    assert other.there()


def test_what_is_no_pin_is_not_removed(bpf_directory: str) -> None:
    """Nor is anything beside it."""
    pins = Pins("t", bpf_directory)
    with Migrate() as steering:
        pins.pin(steering)
    before = sorted(os.listdir(pins.directory))
    os.mkdir(f"{pins.directory}/other")
    with pytest.raises(UsageError, match="is nothing that Segue has pinned"):
        pins.remove()
    os.rmdir(f"{pins.directory}/other")
    assert sorted(os.listdir(pins.directory)) == before
    assert pins.remove()


def test_another_file_system_is_refused(tmp_path: Path) -> None:
    """With how to mount one; a path that is not there is none either."""
    with pytest.raises(NotSupported, match="mount -t bpf"):
        Pins("t", str(tmp_path)).require()
    assert not is_bpffs(str(tmp_path / "nowhere"))
