"""Nonsense by chance: a part of what ``python -m bench fuzz`` does, of each reader."""

from __future__ import annotations

import random

import pytest
from bench.fuzz import control, notifications, objects, settings
from bench.fuzz.__main__ import READERS
from bench.fuzz.found import Found, mutated


def test_settings_are_read_or_refused() -> None:
    """No file of settings is anything but read, or a sentence."""
    found = settings.fuzz(300, 1)
    assert not found.findings
    assert min(found.counts["read"], found.counts["refused"]) > 10


def test_objects_are_read_or_refused() -> None:
    """No object file is anything but read, or a sentence."""
    found = objects.fuzz(1000, 1)
    assert not found.findings
    assert min(found.counts["read"], found.counts["refused by the reader"]) > 10


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_programs_are_loaded_or_refused(netns: int) -> None:
    """No program that was read is anything but loaded, or refused by the kernel in its words."""
    found = objects.fuzz_programs(150, 1)
    assert not found.findings
    assert min(found.counts["loaded"], found.counts["refused by the verifier"]) > 5


@pytest.mark.root
def test_notifications_end_nothing(netns: int) -> None:
    """And none makes a worker ready that did not say so itself."""
    assert not notifications.fuzz(2000, 1).findings


@pytest.mark.root
def test_control_messages_end_nothing(netns: int) -> None:
    """A supervisor serves on after each, and answers whoever asks."""
    found = control.fuzz(500, 1)
    assert not found.findings
    assert found.counts["exit 2"] > 100


def test_a_seed_is_the_same_run_again() -> None:
    """So that what was found can be looked at."""
    first, again = random.Random(7), random.Random(7)
    assert [control.message(first) for _ in range(50)] == [
        control.message(again) for _ in range(50)
    ]
    assert mutated(random.Random(7), b"abc") == mutated(random.Random(7), b"abc")


def test_what_is_slow_or_wrong_is_a_finding() -> None:
    """It is counted, and the first ones are kept."""
    found = Found()
    for number in range(30):
        found.finding(str(number))
    assert (found.total, len(found.findings)) == (30, 20)
    assert set(READERS) == {
        *("packets", "settings", "objects", "programs", "notifications", "control", "scripts")
    }
