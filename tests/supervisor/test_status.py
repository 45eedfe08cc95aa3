"""The status of an instance: one value, which supervisors of other versions may have made."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from rich.console import Console

from segue.cli.status import show
from segue.errors import SegueError
from segue.supervisor.control.status import (
    FrontStatus,
    GenerationStatus,
    Reader,
    Status,
    WorkerStatus,
)

WORKER = WorkerStatus(
    generation=2, id=7, pid=71, stage="serving", age=3.5, directory="/srv/releases/1",
    share=60.0, command="server", weight=0.5, queue=1, drops=2, connections=None, new=5,
    migrated=6, left_out=1000, missing="GET / was answered 400",
    memory=5 << 20, given=9, recycling="5 MB of 4 MB",
    slots=(("127.0.0.1:80", 3), ("[::1]:80", 0)), stalled=0.25, stalls=4, rescued=8,
    hangs="accepts nothing for 3 s, 2 wait", outgoing="it is old",
    failing="GET /live was answered 500 (failure 2 in a row)",
)  # fmt: skip
FRONT = FrontStatus(
    name="web", address="127.0.0.1:80", listeners=3, half_open=1, counts={"new": 5}, by_hash=2,
    variables={"seen": 9}, restored=1, traced=True, standby=True, strangers=("nginx (pid 9)",),
)  # fmt: skip
GENERATION = GenerationStatus(
    generation=2, directory="/srv/current", resolved="/srv/releases/2", program="/usr/bin/server",
    started=1.5e9,
)  # fmt: skip
STATUS = Status(
    name="t", pid=70, phase="canary", engine="migrate", working=1, newcomer=2, size=3,
    reasons=("Linux 6.1",), policy="p.py", object="o.o", command=("server", "--port"), moved=4,
    settings_changed="segue.toml has changed", queued="until 2 serves",
    outage="no worker has served for 70 s", failure="the restart failed", progress="step 2 of 4",
    events={"crash": 2},
    cut=5, unread=6, notifications_dropped=7, rescue=0.05, rescued=8, balance="queue",
    carry="app", carry_reason="r", carried=30, carried_unread=2, carry_lost=1,
    carried_stalled=9, carry_delayed=4,
    left_alone={"its request is being answered": 3},
    held_wanted=True, held=20, held_reason="no room", held_carried=9, held_ended={"an upload": 2},
    waiting_idle=5, went_on=6,
    leftovers="keep", gives_way="by nice values", version="1", flip_ms=1.5,
    flip_age=9.0, generations=(GENERATION,), fronts=(FRONT,), workers=(WORKER,),
)  # fmt: skip
# Of the first version that had a status: only what every later one has, too.
OLDEST: dict[str, Any] = {
    "name": "t", "pid": 70, "phase": "serving", "engine": "hash", "working": 1, "newcomer": 0,
    "size": 1,
    "workers": [{"generation": 1, "id": 0, "pid": 7, "stage": "serving", "age": 1, "share": 100}],
    "fronts": [{"name": "", "address": "127.0.0.1:80"}],
}  # fmt: skip


def over_the_socket(plain: Any) -> Any:
    """As a client reads it."""
    return json.loads(json.dumps(plain))


def shown(status: Status) -> str:
    """What a person sees."""
    text = io.StringIO()
    show(status, Console(file=text, width=120))
    return text.getvalue()


def test_a_status_comes_back_as_it_was() -> None:
    """Every field of it, none of which has its default here."""
    for one in (STATUS, FRONT, WORKER, GENERATION):
        for it in fields(one):
            assert getattr(one, it.name) != it.default, it.name
    assert Status.from_json(over_the_socket(STATUS.to_json())) == STATUS


def test_what_became_of_kept_connections_is_shown() -> None:
    """What was carried, lost and left alone; and why nothing is carried."""
    text = shown(STATUS)
    assert "30 kept connection(s) carried to other workers, 2 with an unread request" in text
    assert "9 from workers that stalled, 4 delayed until a queue had room" in text
    assert "1 lost: no listener took them" in text
    assert "3 left alone: its request is being answered" in text
    off = replace(STATUS, carry="off", carry_reason="Linux 6.1")
    assert "kept connections are not carried: Linux 6.1" in shown(off)
    assert "kept conn" not in shown(replace(off, carry_reason=""))


def test_what_is_held_is_shown() -> None:
    """If that was asked for: how many, why not more, and what became of them."""
    text = shown(STATUS)
    assert "20 kept connection(s) held for a crash of their worker\n  no room" in text
    assert "9 carried from workers that ended\n  2 ended with their worker: an upload" in text
    assert "5 connection(s) that their worker closed wait for a request; 6 went on" in text
    assert " held for" not in shown(replace(STATUS, held_wanted=False))


def test_what_people_read_as_json_is_flat_and_by_name() -> None:
    """Scripts pick these keys; a worker's stalls stand beside the rest of it."""
    plain = STATUS.to_json()
    assert {"working", "newcomer", "flip_ms", "fronts", "workers"} <= plain.keys()
    assert {"stalled", "stalls", "rescued", "slots", "share"} <= plain["workers"][0].keys()
    assert {"counts", "by_hash", "strangers", "restored"} <= plain["fronts"][0].keys()


def test_what_an_earlier_version_does_not_say_has_a_default() -> None:
    """And its 0 for no generation is none."""
    found = Status.from_json(OLDEST)
    assert (found.working, found.newcomer) == (1, None)
    assert (found.balance, found.unread, found.fronts[0].restored) == ("off", 0, 0)
    assert (found.workers[0].weight, found.workers[0].age) == (1.0, 1.0)
    assert "serving, generation 1, 1 worker(s), engine" in shown(found)


def test_what_only_a_later_version_says_is_left_out() -> None:
    """At every depth."""
    later = over_the_socket(OLDEST)
    for one in (later, later["workers"][0], later["fronts"][0]):
        one["more"] = {"of": "it"}
    assert Status.from_json(later) == Status.from_json(OLDEST)


@pytest.mark.parametrize("key", sorted(OLDEST.keys() - {"workers", "fronts"}))
def test_what_every_version_says_must_be_there(key: str) -> None:
    """Without it nothing could be shown; the refusal names it."""
    with pytest.raises(SegueError, match=f"not the status of an instance: it has no {key};"):
        Status.from_json({one: value for one, value in OLDEST.items() if one != key})


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"pid": "seventy"}, "it.pid is 'seventy'"),
        ({"pid": True}, "it.pid is True"),
        ({"working": 1.5}, "it.working is 1.5"),
        ({"command": "server"}, "it.command is 'server'"),
        ({"reasons": [None]}, r"it.reasons\[0\] is None"),
        ({"workers": {}}, "it.workers is {}"),
        ({"workers": [7]}, r"it.workers\[0\] is 7"),
        ({"workers": [{}]}, r"it.workers\[0\] has no generation"),
        ({"fronts": [{"name": "", "address": "a", "counts": {"new": "x"}}]}, "counts.new is 'x'"),
        ({"flip_age": []}, r"it.flip_age is \[\]"),
        ({"flip_age": 10**400}, "it.flip_age is 1000"),
        ({"flip_age": 10**17}, "it.flip_age is 1000"),
        ({"flip_age": 1e308}, r"it.flip_age is 1e\+308"),
        ({"moved": 1 << 64}, "it.moved is 18446744073709551616"),
        ({"working": -(10**400)}, "it.working is -1000"),
        ({"fronts": [{"name": "", "address": "a", "counts": {"new": 10**400}}]}, "counts.new is 1"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any], where: str) -> None:
    """With where it stands; no screen or script has to look at kinds again."""
    with pytest.raises(SegueError, match=where):
        Status.from_json(OLDEST | wrong)


@pytest.mark.parametrize("nothing", [None, [], "status", 7])
def test_what_is_no_object_is_refused(nothing: object) -> None:
    """An answer without a status has none."""
    with pytest.raises(SegueError, match="is not a supervisor, or has another version"):
        Status.from_json(nothing)


def test_slots_are_pairs() -> None:
    """An address and a number, no more and no less."""
    for slots in ([["a"]], [["a", 1, 2]], [[1, "a"]]):
        worker = OLDEST["workers"][0] | {"slots": slots}
        with pytest.raises(SegueError, match="slots"):
            Status.from_json(OLDEST | {"workers": [worker]})


def test_everything_has_a_line_of_its_own() -> None:
    """What needs somebody's attention stands in words below the table."""
    text = shown(STATUS)
    for part in (
        "canary, generations 1 and 2, 3 worker(s), engine", "?", "0.50",
        "worker 2.7 stalled for 0.2 s: 4 stall(s), 8 connection(s) rescued",
        "worker 2.7 accepts nothing for 3 s, 2 wait",
        "worker 2.7 is unwell: GET /live was answered",
        "worker 2.7 is recycled: 5 MB of 4 MB",
        "worker 2.7 prints too much: 1,000 line(s)", "6 line(s) were dropped",
        "7 notification(s) from", "1 time(s) and put back", "left alone: nginx (pid 9)",
        "o.o: seen 9", "5 connection(s) were cut",
    ):  # fmt: skip
        assert part in text


def test_without_a_generation_there_is_none() -> None:
    """Nobody listens at an attached address, and that is said so."""
    nobody = Status(
        name="t", pid=1, phase="attached", engine="migrate", working=None, newcomer=None, size=0
    )
    assert "attached, no generation, engine" in shown(nobody)


def test_drops_that_are_none_are_not_shown_as_drops() -> None:
    """With TCP_DEFER_ACCEPT the kernel counts each connection: a sentence says so."""
    text = shown(replace(STATUS, workers=(replace(WORKER, drops=None, queue=0, new=0),)))
    assert "TCP_DEFER_ACCEPT" in text
    assert "TCP_DEFER_ACCEPT" not in shown(STATUS)


def test_what_each_generation_runs_is_shown() -> None:
    """With the directory by name and resolved, and the worker that runs elsewhere."""
    text = shown(STATUS)
    assert (
        "generation 2: /usr/bin/server in /srv/current (/srv/releases/2), since 2017-07-1" in text
    )
    assert "worker 2.7 runs in /srv/releases/1" in text
    assert "runs in" not in shown(replace(STATUS, generations=()))


def test_a_worker_that_is_replaced_has_one_cause() -> None:
    """That of recycling has more in it than what the plan knows."""
    other = replace(STATUS, workers=(replace(WORKER, recycling=""),))
    assert "worker 2.7 is replaced: it is old" in shown(other)
    assert "is replaced" not in shown(STATUS)


def _looks(*workers: WorkerStatus) -> list[Status]:
    """What one reader makes of these, one a look."""
    reader = Reader()
    return [reader.read(_answered(replace(STATUS, workers=(one,)))) for one in workers]


def _answered(status: Status) -> Any:
    return json.loads(json.dumps(status.to_json()))


def test_a_worker_that_has_only_grown_older_is_not_read_again() -> None:
    """It is the very object, with its age of then."""
    first, then = _looks(WORKER, replace(WORKER, age=4.5))
    assert first == STATUS
    assert then.workers[0] is first.workers[0]


@pytest.mark.parametrize("name", [one.name for one in fields(WorkerStatus) if one.name != "age"])
def test_a_worker_of_which_anything_else_has_changed_is_read(name: str) -> None:
    """As it is now."""
    others: dict[str, Any] = {"slots": (("127.0.0.1:80", 4),), "connections": 3}
    other = others[name] if name in others else 2 * getattr(WORKER, name)
    changed = replace(WORKER, age=4.5, **{name: other})
    assert _looks(WORKER, changed)[1].workers == (changed,)


def test_fields_that_nobody_looks_at_are_read_when_somebody_does() -> None:
    """Until then the worker is the object of an earlier look; not if something else has changed."""
    reader = Reader()

    def look(worker: WorkerStatus, *unseen: str) -> WorkerStatus:
        reader.unseen = frozenset(unseen)
        return reader.read(_answered(replace(STATUS, workers=(worker,)))).workers[0]

    busy = replace(WORKER, new=WORKER.new + 5)
    first = look(WORKER)
    assert look(busy, "new", "given") is first
    assert look(busy, "given") == busy
    assert look(WORKER, "new", "given") == busy
    assert look(replace(WORKER, queue=77), "new").queue == 77
    assert look(WORKER) == WORKER


def test_workers_that_come_and_go_are_read() -> None:
    """In the order of the answer."""
    reader, other = Reader(), replace(WORKER, id=8)
    for workers in ((WORKER,), (WORKER, other), (other,), (), (other, WORKER)):
        status = replace(STATUS, workers=workers)
        assert reader.read(_answered(status)) == status


@pytest.mark.parametrize("plain", [None, [], {"workers": 1}, {"workers": [1]}, {"workers": [{}]}])
def test_a_reader_refuses_what_is_no_status(plain: Any) -> None:
    """As ``from_json``, at the first look and at a later one."""
    reader = Reader()
    for _ in range(2):
        with pytest.raises(SegueError):
            reader.read({**_answered(STATUS), **plain} if isinstance(plain, dict) else plain)
        reader.read(_answered(STATUS))


@pytest.mark.parametrize("status", [STATUS, Status.from_json(OLDEST)])
def test_a_brief_status_says_the_same(status: Status) -> None:
    """What it leaves out has its default."""
    brief = json.loads(json.dumps(status.to_json(brief=True)))
    assert Status.from_json(brief) == status
    assert ("moved" in brief) == bool(status.moved)
