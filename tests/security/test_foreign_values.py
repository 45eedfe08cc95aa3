"""Settings and records with anything in them end in a sentence, never in a traceback."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from segue.address import Address
from segue.engine.attached import Attached
from segue.engine.generations import Generations
from segue.errors import SegueError, UsageError
from segue.linux import proc
from segue.observe.origin import Rule
from segue.policy.counts import Counts
from segue.supervisor.control.paths import Paths
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Worker
from segue.supervisor.lifecycle.stages import Stage
from segue.supervisor.run.record import Record
from segue.supervisor.run.takeover import anyone_alive
from segue.supervisor.settings import Bind, Settings, parse_toml, read_file

STRANGE: list[Any] = [
    None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 100_000, "9" * 5000,
    [], [[]], {}, {"a": {}}, [None], "\0", "\u00b2",
]  # fmt: skip
TOML = {
    "deep": "bind = " + "[" * 3000 + "]" * 3000,
    "deep table": "bind = " + "{a=" * 3000 + "1" + "}" * 3000,
    "long number": "workers = " + "9" * 5000,
    "long hexadecimal number": "workers = 0x" + "f" * 5000,
    "a date": "workers = 1979-05-27T07:32:00Z",
    "no date": "workers = 1979-13-45",
    "twice": "workers = 1\nworkers = 2",
    "not a number": "keep = nan",
    "long": 'name = "' + "x" * 1_000_000 + '"',
    "a section": "[workers]\na = 1",
    "dotted": "a." * 2000 + "b = 1",
    "a long key": "x" * 60_000 + " = 1",
    "zero": "\0",
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_settings_of_any_kind_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """The file is named, and the sentence is no longer than one."""
    file = tmp_path / "segue.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        Settings(
            (Bind.parse("[::1]:80", 0),), ("true",), **parse_toml(str(file), read_file(str(file)))
        )
    assert len(str(caught.value)) < 400


def test_settings_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A surrogate is not UTF-8."""
    file = tmp_path / "segue.toml"
    file.write_bytes(b"\xed\xa0\x80")
    with pytest.raises(UsageError, match="is not TOML"):
        parse_toml(str(file), read_file(str(file)))


def record() -> dict[str, Any]:
    """One as a supervisor writes it, whose worker is this process."""
    settings = Settings((Bind.parse("127.0.0.1:8080", 0),), ("true",), keep=5)
    born = proc.start_time(os.getpid()) or 0
    held = (HeldListener(0, 0, 77),)
    worker = Worker(1, 1, os.getpid(), 1.0, born, Stage.SERVING, pipe=5, listeners=held)
    instance = Instance(1, workers={1: worker}, factors={1: 0.5}, crashes=[1.0])
    instance.shared = ((1, 1.0),)
    plain = {"settings": settings.to_json(), "instance": instance.to_json(), "orders": [[77]]}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in it."""
    if path:
        yield path
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places_in(inner, (*path, key))


def test_a_record_is_read_as_it_was_written() -> None:
    """Its worker runs still."""
    read = Record.from_json(record(), "/x/t.json")
    assert (read.settings.keep, read.instance.workers[1].pid) == (5, os.getpid())
    assert anyone_alive(record())


def test_a_record_with_anything_in_it_is_refused_or_read() -> None:
    """Whatever stands in one of its places: a sentence, or values of the right kinds."""
    whole, refused = record(), 0
    for path in places_in(whole):
        for strange in STRANGE:
            changed = copy.deepcopy(whole)
            inner: Any = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = strange
            anyone_alive(changed)
            try:
                read = Record.from_json(changed, "/x/t.json")
            except SegueError:
                refused += 1
            else:
                again = json.loads(json.dumps(read.to_json(), allow_nan=False))
                assert Record.from_json(again, "/x/t.json") == read
                assert isinstance(read.instance.size, int)
    assert refused > 500


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_record_with_a_number_that_is_not_finite_counts_as_none(
    tmp_path: Path, number: str
) -> None:
    """Wherever it stands.  No version writes one, and no JSON has one."""
    paths, whole = Paths(f"{tmp_path}/t"), record()
    for path in places_in(whole):
        changed = copy.deepcopy(whole)
        inner: Any = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "here"
        Path(paths.record).write_text(json.dumps(changed))
        assert paths.read_record() == changed
        Path(paths.record).write_text(json.dumps(changed).replace('"here"', number))
        assert paths.read_record() is None


def test_no_setting_is_infinite() -> None:
    """So a record of settings, in which JSON has no infinity, can be read."""
    for one in fields(Settings):
        if one.type == "float":
            for value in (float("nan"), float("inf"), float("-inf")):
                given: dict[str, Any] = {one.name: value}
                with pytest.raises(UsageError):
                    Settings((Bind.parse("[::1]:80", 0),), ("true",), **given)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\ud800", "[]", ""])
def test_a_file_that_is_no_record_counts_as_none(tmp_path: Path, text: str) -> None:
    """Nested too deep, too, which is no error of JSON's."""
    paths = Paths(f"{tmp_path}/t")
    Path(paths.record).write_text(text, errors="surrogatepass")
    assert paths.read_record() is None


class Table:
    """As much of a steering as a record is read against."""

    def cookies(self) -> dict[int, int]:
        return {0: 70, 1: 71}

    def counted(self, slot: int) -> Counts:
        assert isinstance(slot, int)
        return Counts()

    def share(self, weights: dict[int, float]) -> None:
        assert all(isinstance(slot, int) and weight >= 0 for slot, weight in weights.items())


def attached() -> Attached:
    """A group that was found again, before its record is read."""
    address = Address("127.0.0.1", 8080)
    rule = Rule.parse("start")
    return Attached(address, cast("Any", None), cast("Any", Table()), rule, Generations(5.0))


def test_a_record_of_a_foreign_group_is_read_or_left() -> None:
    """What cannot be read changes nothing; what can has counts where counts belong."""
    one = {"cookie": 70, "slot": 0, "generation": 1, "since": 1.0, "ready": True}
    whole = {
        "members": [one, {**one, "cookie": 71, "slot": 1, "generation": 2}],
        "generations": {"last": 2, "keys": {"a": 1, "b": 2}, "started": 1.0},
        "percent": {"2": 5.0}, "factors": {"70": 0.5}, "strength": 2,
        "gone": {"new": 3},
    }  # fmt: skip
    before = attached()
    before.restore(whole, 1.0)
    assert set(before.members) == {70, 71}
    for path in places_in(whole):
        for strange in STRANGE:
            changed = copy.deepcopy(whole)
            inner: Any = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = strange
            found = attached()
            try:
                found.restore(changed, 1.0)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                assert not found.members
                assert not found.percent
                assert not found.generations.keys
            else:
                json.dumps([found.generations.to_json(), found.percent, found.factors])
                assert all(isinstance(one.generation, int) for one in found.members.values())
