"""What old code hands over: every field of it arrives, and every descriptor stays open."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from tests.supervisor.run.doubles import Run, settings_of

from segue.errors import SegueError
from segue.supervisor.lifecycle.instance import HeldListener, Instance, Renewal, Start, Worker
from segue.supervisor.lifecycle.stages import Phase, Stage
from segue.supervisor.run.handover import VARIABLE, HandedFront, HandedWorker, Handover, handed_over
from segue.supervisor.run.record import Record
from segue.supervisor.run.service import Unclaimed
from segue.supervisor.run.upgrade import gather
from segue.supervisor.run.waiting import Awaited, Handed
from segue.supervisor.source import Source

SETTINGS = settings_of(2, workers=3)
HELD = HeldListener(0, 4, 99)
EMPTY = Handover(
    record=Record(SETTINGS, Instance(size=3), "drain", ((), ())),
    before=SETTINGS,
    nudge=False,
    reasons=(),
    files=None,
    clients=(),
    moved=0,
    cut=0,
    exit_code=0,
    lock=None,
    control=None,
    inbox=None,
    fronts=(),
    workers={},
    unclaimed=(),
    leftovers={"left": [], "bystanders": []},
)
WORKER = Worker(
    7,
    2,
    123,
    1.5,
    99,
    Stage.DRAINING,
    2.5,
    2.25,
    17,
    (HELD,),
    True,
    "o",
    "m",
    "f",
    "r",
    True,
    True,
    "d",
)
FULL: dict[str, Any] = {
    "record": Record(
        replace(SETTINGS, keep=3.0),
        Instance(
            size=4,
            begun=0.5,
            phase=Phase.CANARY,
            working=2,
            newcomer=3,
            last_generation=5,
            last_worker=9,
            renewal=Renewal(12.5, 3.0, at_once=True, cut=True),
            rolled_back=True,
            shared=((7, 0.5),),
            factors={7: 0.25},
            balance={7: 2.0},
            crashes=[1.0, 2.0],
            not_before=4.0,
            workers={7: WORKER},
            starts={2: Start("/srv/current", "/srv/2", "/bin/server", 1.25)},
        ),
        "migrate",
        ((1, 2), (3,)),
        "/sys/fs/cgroup/web",
        ({97: "worker 1.3"}, {}),
    ),
    "before": replace(SETTINGS, workers=5),
    "nudge": True,
    "reasons": ("asked for",),
    "files": (1024, 4096),
    "clients": (Handed(20, Awaited.GENERATION, 3, until_drained=False),),
    "moved": 1,
    "carried": (7, 8, 9),
    "cut": 2,
    "exit_code": 3,
    "lock": 4,
    "control": 5,
    "inbox": 6,
    "fronts": (HandedFront({1: 21, 2: 22}, {"maps": 23}, (98, 99), {1: 5}),),
    "workers": {7: HandedWorker(24, 25, "half a li\xff")},
    "unclaimed": (Unclaimed("worker 1.2", 1, (HELD,), False, True, True),),
    "source": Source("/srv/web", "/srv/web/segue.toml", "digest"),
    "leftovers": {"left": [[7, "flag", 1.5, [[8, 9]]]], "bystanders": [[10, 11]]},
}


def read(handover: Handover) -> Handover:
    """As new code reads it."""
    return Handover.from_json(json.loads(json.dumps(handover.to_json())))


@pytest.mark.parametrize("name", [one.name for one in fields(Handover)])
def test_every_field_arrives(name: str) -> None:
    """One value that is not the usual one, alone: it is what new code reads."""
    given = replace(EMPTY, **{name: FULL[name]})
    assert given != EMPTY
    assert read(given) == given


def test_everything_arrives_together() -> None:
    """No field takes another one's place."""
    given = replace(EMPTY, **FULL)
    assert read(given) == given


def test_every_descriptor_is_named() -> None:
    """Each number in it that is a descriptor is to stay open over exec."""
    given = replace(EMPTY, **FULL)
    assert sorted(given.descriptors()) == [4, 5, 6, 20, 21, 22, 23, 24, 25]


@pytest.mark.parametrize("missing", sorted(set(EMPTY.to_json()) - {"source", "carried"}))
def test_a_handover_without_a_key_is_refused(missing: str) -> None:
    """In one sentence, before exec: whichever key it is."""
    plain = EMPTY.to_json()
    del plain[missing]
    with pytest.raises(SegueError, match="hands over"):
        Handover.from_json(plain)


@pytest.mark.parametrize("key", sorted(set(EMPTY.to_json()) - {"leftovers", "nudge"}))
@pytest.mark.parametrize("value", [None, -1, "x", [[1]], {"a": 1}])
def test_foreign_values_are_refused_or_read(key: str, value: Any) -> None:
    """Nothing but a SegueError comes of a value of another kind."""
    plain = {**EMPTY.to_json(), key: value}
    with contextlib.suppress(SegueError):
        Handover.from_json(plain)


def test_what_a_service_owns_is_handed_over(begin: Callable[..., Run]) -> None:
    """Its lock, sockets, listeners, pidfds, pipes and clients: all that could be lost by exec."""
    run = begin(2, output="prefix")
    run.runner.open()
    run.serve()
    client = run.ask("restart")
    service, doors = run.service, run.service.doors
    found = gather(service, run.settings, service.source)
    assert doors.clients is not None
    assert doors.clients.control is not None
    assert doors.inbox is not None
    owned = [doors.lock, doors.clients.control.fileno(), doors.inbox.fileno()]
    owned += [one.fileno() for front in service.fronts for one in front.sockets.values()]
    for process in service.processes:
        assert process.pipe is not None
        owned += [process.child.pidfd, process.pipe.reader]
    owned += [one.descriptor for one in found.clients]
    assert len(owned) == 3 + 2 * 4 + 2 * 4 + 1
    assert sorted(found.descriptors()) == sorted(one for one in owned if one is not None)
    assert read(found) == found
    assert not client.ends


def test_it_is_read_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of a memfd, which workers do not inherit by name."""
    memory = EMPTY.write()
    monkeypatch.setenv(VARIABLE, str(memory))
    plain = handed_over()
    assert plain is not None
    assert Handover.from_json(plain) == EMPTY
    assert VARIABLE not in os.environ
    assert handed_over() is None
