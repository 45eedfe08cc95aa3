"""The fate table: every pair of facts is decided, and decided once."""

from __future__ import annotations

import errno
from itertools import product

import pytest

from segue.errors import IllegalInput
from segue.probe.fates import FATES, MEANINGS, End, Fate, Stage, decide, end_of


@pytest.mark.parametrize(("stage", "end"), list(product(Stage, End)))
def test_every_pair_is_decided_by_the_table(stage: Stage, end: End) -> None:
    """A pair with a row has that fate; a pair that cannot be is refused, with what can be."""
    if (stage, end) in FATES:
        assert decide(stage, end) is FATES[stage, end]
    else:
        with pytest.raises(IllegalInput, match=f"{end.name} in {stage.name}"):
            decide(stage, end)


@pytest.mark.parametrize("stage", list(Stage))
def test_no_errno_is_without_a_fate(stage: Stage) -> None:
    """Whatever the kernel says, at whatever moment, the attempt is counted."""
    for number in (0, 9999, *errno.errorcode):
        assert isinstance(decide(stage, end_of(number)), Fate)


def test_every_fate_can_be_met_and_is_explained() -> None:
    """No fate stands in the reports that no evidence leads to."""
    assert set(FATES.values()) == set(Fate)
    assert set(MEANINGS) == set(Fate)
    assert all(fate.meaning for fate in Fate)


def test_what_counts_as_lost() -> None:
    """Lost is the client's view of the server; its own machine's failures are not."""
    assert {fate for fate in Fate if not fate.lost} == {
        Fate.OK,
        Fate.CLOSED,
        Fate.IDLE_CLOSED,
        Fate.PORTS_EXHAUSTED,
        Fate.LOCAL_ERROR,
    }
    unasked = [Fate.CUT, Fate.CLOSED, Fate.IDLE_CLOSED]
    assert [fate for fate in Fate if not fate.attempt] == unasked


@pytest.mark.parametrize("end", [end for stage, end in FATES if stage is Stage.IDLE])
def test_nothing_that_happens_to_an_idle_connection_is_a_loss(end: End) -> None:
    """No request was out, so whatever ended the connection lost none."""
    assert decide(Stage.IDLE, end) is Fate.IDLE_CLOSED


@pytest.mark.parametrize("stage", list(Stage))
def test_a_reset_is_told_by_what_had_been_sent(stage: Stage) -> None:
    """Before the request, after it, in the answer: three different faults of a server."""
    told = {
        Stage.SENT: Fate.RESET_AFTER,
        Stage.ANSWERING: Fate.PARTIAL,
        Stage.IDLE: Fate.IDLE_CLOSED,
        Stage.HELD: Fate.CUT,
    }
    assert decide(stage, end_of(errno.ECONNRESET)) is told.get(stage, Fate.RESET_BEFORE)
