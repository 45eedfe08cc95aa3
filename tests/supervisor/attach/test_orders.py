"""Orders for a group that somebody else opened: what they change, and what they refuse."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.supervisor.attach.doubles import HERE, Desk, RecordingClient
from tests.supervisor.rounds import Rounds

from segue.errors import KernelError, SegueError, UsageError
from segue.supervisor.attach.orders import ORDERS
from segue.supervisor.control.requests import (
    VERBS,
    Detach,
    Promote,
    Request,
    Rescue,
    Rollback,
    Shift,
    ShowStatus,
    Stop,
    Weights,
    parse,
)

Make = Callable[..., Desk]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    desks: list[Desk] = []

    def made(*generations: int, **settings: object) -> Desk:
        desks.append(Desk(tmp_path, *generations, **settings))
        return desks[-1]

    yield made
    for one in desks:
        one.close()


def do(desk: Desk, request: Request) -> RecordingClient:
    """The client, once it has its answer."""
    client = RecordingClient()
    try:
        desk.orders.do(client, request)
    except SegueError:
        client.close()
        raise
    return client


def test_a_shift_is_in_force_written_down_and_told(make: Make) -> None:
    """The newest generation has its part, and so it has for the next attach of this name."""
    desk = make(1, 2)
    assert do(desk, Shift(25)).answer == {"exit": 0, "generation": 2, "percent": 25}
    assert desk.steering.shares[-1] == {0: 0.75, 1: 0.25}
    assert desk.record()["group"]["percent"] == {"2": 25}
    assert desk.said[-1].endswith("generation 2 has 1 listener(s) and 25 %")


def test_a_shift_within_one_generation_changes_nothing(make: Make) -> None:
    """There is nobody to have the rest; no share is touched and nothing is written."""
    desk = make(1, 1)
    with pytest.raises(UsageError, match="one generation only"):
        do(desk, Shift(25))
    assert (desk.steering.shares, desk.record(), desk.said) == ([], {}, [])


def test_promotion_and_rollback_are_shifts_of_everything(make: Make) -> None:
    """The answer names the generation that has most then."""
    desk = make(1, 2)
    assert do(desk, Rollback()).answer == {"exit": 0, "generation": 1}
    assert do(desk, Promote()).answer == {"exit": 0, "generation": 2}
    assert desk.steering.shares == [{0: 1.0}, {1: 1.0}]


def test_weights_are_factors_of_the_shares(make: Make) -> None:
    """Of the listeners that are named, and of no other."""
    desk = make(1, 1)
    assert do(desk, Weights({1: 3.0})).answer == {"exit": 0}
    shares = desk.steering.shares[-1]
    assert shares[1] == pytest.approx(3 * shares[0])
    with pytest.raises(UsageError, match=r"no worker7 \(there are worker0, worker1\)"):
        do(desk, Weights({0: 2.0, 7: 2.0}))
    assert len(desk.steering.shares) == 1


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {one.verb for one in ORDERS}))
def test_what_restarts_servers_is_refused(make: Make, verb: str) -> None:
    """They are not ours to start; the sentence says which orders there are."""
    more = {"workers": 2} if verb == "scale" else {}
    desk = make(1)
    with pytest.raises(UsageError, match=f"{verb} .*status, shift"):
        do(desk, parse({"do": verb, **more}))


def test_a_stop_leaves_the_program_and_its_shares(make: Make) -> None:
    """The next attach goes on with them."""
    desk = make(1, 2)
    assert do(desk, Stop()).answer == {"exit": 0}
    assert desk.attachment.over
    assert (desk.taken_off, desk.steering.shares) == ([], [])
    assert "the program stays attached" in desk.said[-1]


def test_a_stop_takes_off_what_was_attached_for_now(make: Make) -> None:
    """As segue rescue attaches it."""
    desk = make(1, 2, passing=True, rescue="50ms")
    do(desk, Stop())
    assert desk.attachment.over
    assert desk.taken_off == [HERE]


def test_a_detach_leaves_nothing_behind(make: Make) -> None:
    """No program and no record, under whichever of its names the address was given."""
    desk = make(1, 2)
    do(desk, Shift(25))
    assert desk.record()
    assert do(desk, Detach(str(HERE))).answer == {"exit": 0}
    assert (desk.attachment.over, desk.taken_off, desk.record()) == (True, [HERE], {})


def test_a_detach_that_the_kernel_refuses_is_not_over(make: Make) -> None:
    """It is followed on, and the record is still there."""
    desk = make(1, 2)
    do(desk, Shift(25))
    desk.refusal = KernelError("setsockopt", errno.EPERM, "taking the program off")
    with pytest.raises(KernelError):
        do(desk, Detach())
    assert not desk.attachment.over
    assert desk.record()


@pytest.mark.parametrize("request_", [Detach("10.0.0.1:80"), Rescue("50ms", "10.0.0.1:80")])
def test_another_address_is_refused(make: Make, request_: Request) -> None:
    """Two addresses may share a name that was given to both."""
    desk = make(1, 2)
    with pytest.raises(UsageError, match=f"t is attached to {HERE}"):
        do(desk, request_)
    assert not desk.taken_off


def test_the_status_tells_how_listeners_stand(make: Make) -> None:
    """By generation: who serves, who had its share taken, and who never had one."""
    desk = make(1, 1, 2)
    desk.attached.members[102].ready = False
    plain = do(desk, ShowStatus()).answer["status"]
    assert [(one["id"], one["stage"]) for one in plain["workers"]] == [
        (0, "draining"), (1, "draining"), (2, "starting"),
    ]  # fmt: skip
    assert (plain["working"], plain["newcomer"], plain["size"]) == (2, None, 3)
    assert plain["fronts"][0]["counts"]["new"] == 3
    assert (plain["name"], plain["engine"], plain["phase"]) == ("t", "migrate", "attached")


def test_a_rescue_lasts_until_its_client_hangs_up(make: Make) -> None:
    """It hears what goes on; nobody else may begin one meanwhile."""
    desk = make(1, 1)
    client = do(desk, Rescue("50ms"))
    assert desk.attachment.rescue is not None
    with pytest.raises(SegueError, match="t rescues already"):
        do(desk, Rescue("50ms"))
    client.hang_up()
    desk.loop.run(Rounds(1))
    now = desk.orders.attachment
    assert now.rescue is None
    assert now.client is None
    assert desk.said[-1] == "rescue has ended with who asked for it"


def test_a_rescue_whose_time_is_none_is_refused(make: Make) -> None:
    """And nobody is looked after then."""
    desk = make(1, 1)
    with pytest.raises(UsageError, match="--after"):
        do(desk, Rescue("soon"))
    assert desk.attachment.rescue is None
