"""``segue plan``: what it prints, for people and for programs, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from segue.address import Address
from segue.cli.main import main
from segue.linux.sockopt import open_listener
from segue.plan.ways import WAYS

FEW = ("--simulate", "200")


def test_it_has_a_row_for_every_way_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """With kept connections the reason is theirs."""
    assert main(["plan", "--rate", "500", "--kept", "400", *FEW]) == 0
    said = capsys.readouterr().out
    for way in WAYS:
        assert f"\n{way.name} " in said
    assert "\ncarry: Closing loses" in said
    assert "not accepted yet" in said


def test_the_same_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every number with its interval, and the same for the same seed."""
    args = ["plan", "--json", "--rate", "500", "--rtt", "40,200", "--beside", "0", *FEW]
    assert main(args) == 0
    first = capsys.readouterr().out
    found = json.loads(first)
    close = found["ways"]["close"]
    assert close["lost"]["low"] < found["half_open"] < close["lost"]["high"]
    assert close["lost_per_day"]["mean"] == pytest.approx(10 * close["lost"]["mean"])
    assert found["advice"]["way"] == "migrate-policy"
    assert main(args) == 0
    assert capsys.readouterr().out == first
    assert main([*args, "--seed", "2"]) == 0
    assert capsys.readouterr().out != first


@pytest.mark.parametrize(
    ("args", "way"),
    [
        (["--rate", "0.0001"], "close"),
        (["--rate", "100"], "migrate-policy"),
        (["--rate", "100", "--kept", "50"], "carry"),
    ],
)
def test_the_advice_asks_for_no_more_than_it_saves(
    args: list[str], way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is hardly ever lost needs nothing; what nobody keeps need not be carried."""
    assert main(["plan", "--json", *args, *FEW]) == 0
    assert json.loads(capsys.readouterr().out)["advice"]["way"] == way


def test_every_figure_reaches_the_load(capsys: pytest.CaptureFixture[str]) -> None:
    """What was assumed stands above the table."""
    given = [
        *("--rate", "70", "--rtt", "50:30,99:300", "--accept", "2,9", "--answer", "8"),
        *("--kept", "12", "--think", "3", "--backlog", "64", "--workers", "2"),
        *("--stall", "1,30", "--loss", "2", "--burst", "10", "--careless", "5"),
        *("--closes-after", "0.1"),
    ]
    assert main(["plan", *given, *FEW]) == 0
    said = capsys.readouterr().out
    for words in (
        "70 connections/s arrive at 2 workers, each with a backlog of 64",
        "a handshake takes 30 ms (99 %: 300 ms), an accept 2 ms (99 %: 9 ms), an answer 8 ms",
        "12 connections are kept, and wait 3 s",
        "each worker stalls 1 s of every 30 s",
        "2 % of packets are lost",
        "differs by 10 %",
        "5 % of clients",
        "closes its listener 100 ms later",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give --rate, or --from"),
        (["--rate", "nan"], "a rate"),
        (["--rate", "5", "--rtt", "soon"], "is not a time"),
        (["--rate", "5", "--stall", "3"], "is no stall"),
        (["--rate", "5", "--loss", "60"], "a loss"),
        (["--rate", "1e9"], "simulate fewer"),
        (["--rate", "5", "--guard", "3", "--limit", "2"], "a guard time"),
        (["--rate", "5", "--restarts-per-day", "-1"], "at least 0 a day"),
        (["--rate", "5", "--restarts-per-day", "nan", "--json"], "at least 0 a day"),
        (["--rate", "5", "--restarts-per-day", "inf", "--json"], "at least 0 a day"),
        (["--from", ":443", "--rtt", "5"], "--rtt is looked at"),
        (["--from", "nowhere"], "is not an address"),
        (["--from", ":443", "--seconds", "0"], "a look lasts"),
    ],
)
def test_what_makes_no_sense_is_refused(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, with 2."""
    assert main(["plan", *args]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.root
def test_a_live_group_is_planned_for(netns: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody connects to this one: a restart loses nothing.  Another listener is told of."""
    with (
        open_listener(Address("127.0.0.1", 8080), backlog=16),
        open_listener(Address("127.0.0.1", 8081), backlog=16),
    ):
        assert main(["plan", "--from", "127.0.0.1:8080", "--seconds", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "0 connections/s arrive at 1 worker, each with a backlog of 16" in said
    assert "\nclose: " in said
    assert "Listeners at other addresses here: 1." in said
    assert main(["plan", "--from", "127.0.0.1:8080", "--seconds", "0.1"]) == 2
    assert "no process listens" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install() -> None:
    """And no traceback."""
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from segue.cli.main import main; sys.exit(main(['plan', '--rate', '5']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'segue[plan]'" in done.stderr
    assert done.stderr.count("\n") == 1
