"""Pins: all of a group's objects under one name, or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.policy.clients import IPV4

from segue.engine.migrate import Migrate, cookies
from segue.engine.pinning import Pins
from segue.errors import KernelError, NotSupported
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
    assert not os.path.exists(f"{bpf_directory}/segue")


def test_a_half_made_set_is_never_found(bpf_directory: str) -> None:
    """Whoever was killed while pinning leaves something that is made anew."""
    pins = Pins("t", bpf_directory)
    os.makedirs(f"{pins.directory}:new")
    with Migrate() as steering:
        pins.pin(steering)
        assert os.listdir(f"{bpf_directory}/segue") == ["t"]
        with pytest.raises(KernelError, match="pinning to"):
            pins.pin(steering)  # the name is taken
    assert pins.remove()


def test_another_file_system_is_refused(tmp_path: Path) -> None:
    """With how to mount one; a path that is not there is none either."""
    with pytest.raises(NotSupported, match="mount -t bpf"):
        Pins("t", str(tmp_path)).require()
    assert not is_bpffs(str(tmp_path / "nowhere"))
