"""Every way to empty a listener: what it loses on Linux and on the model, and how that is told."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from segue.cli.lab import lab
from segue.errors import UsageError
from segue.lab.comparing import lines, table
from segue.lab.comparing.chances import chances
from segue.lab.comparing.comparison import Compared, summary
from segue.lab.comparing.ledger import End, Fate, How, Outcome, Served, fate, outcome
from segue.lab.comparing.on_linux import measure
from segue.lab.comparing.on_model import predict
from segue.lab.comparing.settings import Settings
from segue.lab.ways.known import WAYS, chosen

# Forty milliseconds hold some thirty handshakes at a time, so that a way that loses them shows it.
SETTINGS = Settings(rate=250, kept=6, rtt_s=0.04)
NOT_ACCEPTED = (Fate.HALF_OPEN, Fate.QUEUED, Fate.REFUSED, Fate.GAVE_UP)
LOSES_HALF_OPEN = {"close", "handoff"}
FEW = 3  # of some thirty that were half-open
REPEATED_MS = 900.0  # a SYN, and a SYN-ACK, are repeated after a second


def not_accepted(found: Outcome) -> int:
    return sum(found.fates[one] for one in NOT_ACCEPTED)


def judge(name: str, found: Outcome) -> None:
    """What is known of the way must show."""
    assert found.latencies_ms
    assert found.gone_s is not None
    if name in LOSES_HALF_OPEN:
        assert found.fates[Fate.HALF_OPEN] > 0
    elif name == "backlog-zero":
        assert not_accepted(found) or max(found.latencies_ms) > REPEATED_MS
    elif name == "cookies":
        # A handshake may end between the last accept and the close: no call does both at once.
        assert not_accepted(found) == found.fates[Fate.QUEUED] <= FEW, found.fates
    else:
        assert not_accepted(found) == 0, found.fates
    assert (found.reconnected > 0) is (name != "carry")
    assert not (name == "carry" and found.fates[Fate.ACCEPTED])


@pytest.mark.parametrize("name", WAYS)
def test_a_way_does_on_the_model_what_is_said_of_it(name: str) -> None:
    """It loses what was half-open, or has it wait, or loses nothing that was not accepted yet;
    and it lets go of kept connections, or carries them.
    """
    judge(name, predict(SETTINGS, WAYS[name]))


@pytest.mark.root
@pytest.mark.parametrize("name", WAYS)
def test_a_way_does_on_linux_what_is_said_of_it(name: str) -> None:
    """The same, measured; every connection that was dialled is accounted for."""
    found = measure(SETTINGS, WAYS[name])
    judge(name, found)
    assert (
        found.total
        == len(list(SETTINGS.arrivals(chances(SETTINGS.seed)[0])))
        + SETTINGS.kept
        + found.reconnected
    )


def test_without_a_restart_nothing_is_lost() -> None:
    """All are answered, on the model and for whoever compares with it."""
    found = predict(SETTINGS, None)
    assert set(found.fates) == {Fate.ANSWERED}
    assert (found.reconnected, found.gone_s, found.old_s) == (0, None, None)


def test_the_model_says_the_same_for_the_same_clients() -> None:
    """To the connection and to the millisecond; other clients come at other times."""
    way = WAYS["close"]
    assert predict(SETTINGS, way) == predict(SETTINGS, way)
    assert predict(SETTINGS, way) != predict(replace(SETTINGS, seed=2), way)


@pytest.mark.parametrize(
    ("how", "is_accepted", "was_half_open", "expected"),
    [
        (How.ANSWERED, True, True, Fate.ANSWERED),
        (How.LET_GO, True, False, Fate.LET_GO),
        (How.RESET, True, True, Fate.ACCEPTED),  # half-open then, and accepted since
        (How.RESET, False, True, Fate.HALF_OPEN),
        (How.RESET, False, False, Fate.QUEUED),
        (How.REFUSED, False, True, Fate.REFUSED),
        (How.GAVE_UP, False, True, Fate.GAVE_UP),
    ],
)
def test_a_connection_has_one_fate(
    how: How, is_accepted: bool, was_half_open: bool, expected: Fate
) -> None:
    """By what its client saw, and by where the servers had it."""
    served = Served(
        frozenset({7} if is_accepted else ()), frozenset({7} if was_half_open else ()), None, None
    )
    assert fate(End(7, 0.0, None, how), served) is expected


def test_latencies_are_of_those_that_came_around_the_restart() -> None:
    """Of new clients, from a round trip before it on, and not of kept connections."""
    begins = SETTINGS.restart_s
    ends = [
        End(1, begins - 0.1, begins, How.ANSWERED),
        End(2, begins, begins + 0.25, How.ANSWERED),
        End(3, begins, begins + 0.5, How.ANSWERED, kept=True),
        End(4, begins, None, How.RESET, again=True),
    ]
    found = outcome(SETTINGS, ends, Served(frozenset(), frozenset(), 0.0, 0.0))
    assert found.latencies_ms == pytest.approx((250.0,))
    assert (found.total, found.reconnected) == (4, 1)


@pytest.mark.parametrize("rate", [100, 400])
def test_those_that_keep_a_connection_have_been_accepted_long_before_the_restart(
    rate: int,
) -> None:
    """However many they are: what close loses of the queue is what others have there."""
    many = predict(replace(SETTINGS, rate=rate, kept=200), WAYS["close"])
    assert many.fates[Fate.QUEUED] <= 5
    assert many.reconnected == 200


def test_what_processes_say_is_read_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings, the servers' side and the clients' side, over a line each."""
    served = Served(frozenset({1, 2}), frozenset({3}), 0.5, None)
    ends = [End(1, 0.5, None, How.GAVE_UP, kept=True), End(2, 0.5, 0.75, How.ANSWERED)]
    lines.say_served(served)
    lines.say_ends(ends)
    first, second = capsys.readouterr().out.splitlines()
    assert lines.served(first) == served
    assert lines.ends(second) == ends
    assert lines.settings(lines.told(SETTINGS)) == SETTINGS


def runs(*lost: int) -> list[Outcome]:
    return [
        Outcome(Counter({Fate.ANSWERED: 90, Fate.QUEUED: one}), 1, 0.01, 0.02, (10.0, 20.0 + one))
        for one in lost
    ]


def test_a_summary_has_medians_and_extremes() -> None:
    """Of what was lost; latencies against those without a restart."""
    found = summary(runs(1, 5, 2), runs(0))
    assert found.lost["lost queued"] == 2
    assert (found.least, found.most, found.connections) == (1, 5, 278)
    assert (found.gone_ms, found.old_ms) == (10.0, 20.0)
    assert found.added_p99_ms == pytest.approx(25.0 - 20.0)


def test_a_way_that_linux_was_not_asked_about_says_why() -> None:
    """In the table, in the picture, and as JSON."""
    found = summary(runs(3), runs(0))
    compared = [Compared(WAYS["close"], None, found, "<no right>")]
    assert list(next(table.rows(compared)))[2:] == ["-"] * 10
    assert list(table.notes(compared)) == ["Linux was not asked about close: <no right>"]
    page = table.page(SETTINGS, 1, compared)
    assert "&lt;no right&gt;" in page
    assert page.count('<rect class="lost1" ') == 1
    assert table.plain(SETTINGS, compared)["ways"][0]["linux"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rtt_s": 3},
        {"busy": 1.0},
        {"workers": 0},
        {"kept": -1},
        {"rate": 30_000},
        {"rate": 1, "kept": 500},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is made."""
    with pytest.raises(UsageError):
        replace(SETTINGS, **wrong)


def test_ways_are_chosen_by_name_in_the_order_of_the_table() -> None:
    """All of them when none is named; one that is not there is refused."""
    assert [way.name for way in chosen(["inherit", "close"])] == ["close", "inherit"]
    assert [way.name for way in chosen([])] == list(WAYS)
    with pytest.raises(UsageError, match="there is no way 'hope'"):
        chosen(["hope"])


@pytest.mark.root
def test_the_command_tells_a_table_a_page_and_json(tmp_path: Path) -> None:
    """Each way, on both sides."""
    page = tmp_path / "page.html"
    asked = ["compare", "--ways", "inherit,close", "--repetitions", "1", "--rate", "200"]
    told = CliRunner().invoke(lab, [*asked, "--html", str(page), "--json"], catch_exceptions=False)
    found = json.loads(told.output)
    assert [one["way"] for one in found["ways"]] == ["close", "inherit"]
    assert all(one["linux"]["restarts"] == 1 for one in found["ways"])
    assert "lost half-open" in page.read_text()
