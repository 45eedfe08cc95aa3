"""Sweeps: what a file asks, and results that do not depend on who did them, or how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import wait_until

from segue.cli.main import main
from segue.errors import UsageError
from segue.linux import proc
from segue.plan.results import Results
from segue.plan.sweep import parse, result
from segue.plan.ways import WAYS

TEXT = """
seed = 5
restarts = 40
kept = [0, 100]

[service.shop]
machines = 3
rate = [100, 300, 900]
rtt = ["1", "40,200"]

[service.api]
rate = 50
restarts-per-day = 2
closes-after = 0.1
"""
SEGUE = [sys.executable, "-m", "segue", "plan"]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A sweep of fourteen configurations."""
    file = tmp_path / "fleet.toml"
    file.write_text(TEXT)
    return file


def swept(file: Path, results: str, *more: str) -> Any:
    command = [*SEGUE, "--sweep", str(file), "--results", str(file.parent / results), "--json"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=90)
    return json.loads(done.stdout)


def here(text: str) -> Any:
    """What this process finds."""
    return json.loads(json.dumps([result(one) for one in parse(text).configurations]))


def one_is_done(results: Path) -> bool:
    """Besides the line that names the sweep."""
    return results.exists() and results.read_bytes().count(b"\n") > 1


def test_every_value_of_a_list_is_a_configuration() -> None:
    """With what stands above all services; a service's own figure takes precedence."""
    sweep = parse(TEXT)
    assert [one.service for one in sweep.configurations] == ["shop"] * 12 + ["api"] * 2
    first, last = sweep.configurations[0], sweep.configurations[-1]
    assert (first.machines, first.study.load.rate, first.study.load.kept) == (3, 100, 0)
    assert (last.restarts_per_day, last.study.load.closes_after_s) == (2, 0.1)
    assert (last.study.seed, last.study.restarts) == (5, 40)


def test_a_day_is_that_of_all_machines() -> None:
    """Each restarted so often."""
    found = result(parse(TEXT).configurations[0])
    close = found["ways"]["close"]
    assert close["lost_per_day"] == pytest.approx(close["lost"] * 3 * 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "no TOML"),
        ("rate = 5", "at least one service"),
        ("[service]\nshop = 5", "is no table"),
        ("[service.a]\nkept = 5", "has no rate"),
        ("[service.a]\nrate = 5\nspeed = 1", "no figure 'speed'"),
        ("[service.a]\nrate = 'fast'", "rate is a number"),
        ("[service.a]\nrate = true", "rate is a number"),
        ("[service.a]\nrate = []", "makes 0 configurations"),
        ("seed = 'x'\n[service.a]\nrate = 5", "seed is a number"),
        ("[service.a]\nrate = 5\nmachines = -1", "at least 0"),
        ("[service.a]\nrate = 5\nmachines = nan", "machines is a number, and not nan"),
        ("[service.a]\nrate = 5\nrestarts-per-day = inf", "restarts-per-day is a number"),
        ("[service.a]\nrate = 1" + 400 * "0", "rate is a number"),
        ("[service.a]\nrate = 1" + 5000 * "0", "no TOML"),
        ("[service.a]\nrate = 5\nrtt = 'soon'", "is not a time"),
        ("[service.a]\nrate = 5\nthink = 0", "a time to think"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    """Before anything is simulated."""
    with pytest.raises(UsageError, match=said):
        parse(text)


@pytest.mark.slow
def test_the_number_of_processes_makes_no_difference(asked: Path) -> None:
    """Nor does it whether a sweep is done in one go, or was killed and goes on."""
    alone = here(TEXT)
    assert swept(asked, "two", "--processes", "2") == alone
    lines = (asked.parent / "two").read_bytes().splitlines(keepends=True)
    assert len(lines) == 15
    # As a kill leaves it: some lines, and the beginning of one.
    (asked.parent / "rest").write_bytes(b"".join(lines[:6]) + lines[6][:40])
    assert swept(asked, "rest", "--processes", "1") == alone
    whole = (asked.parent / "rest").read_bytes().splitlines()
    assert [json.loads(line) for line in whole[:6]] == [json.loads(line) for line in lines[:6]]
    assert len(whole) == 15


@pytest.mark.slow
def test_what_a_killed_process_had_is_done_by_another(tmp_path: Path) -> None:
    """The sweep goes on, and its results are those of one that was left in peace."""
    text = "restarts = 800\n[service.a]\nrtt = '40,400'\nrate = [3000, 3001, 3002, 3003]"
    file, results = tmp_path / "slow.toml", tmp_path / "killed"
    file.write_text(text)
    command = [*SEGUE, "--sweep", str(file), "--results", str(results), "--processes", "2"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as sweeping:
        wait_until(lambda: one_is_done(results), "a first result")
        victim = next(
            pid
            for pid in proc.tree(sweeping.pid)
            if any("spawn_main" in word for word in proc.command_line(pid))
        )
        os.kill(victim, signal.SIGKILL)
        said, _ = sweeping.communicate(timeout=90)
    assert sweeping.returncode == 0
    assert json.loads(said) == here(text)


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_says_how_to_go_on(asked: Path) -> None:
    """As by Ctrl-C, which the terminal sends to all its processes; they have ended with it."""
    asked.write_text(
        f"restarts = 4000\n[service.a]\nrtt = '40,400'\nrate = {list(range(1000, 1200))}"
    )
    results = asked.parent / "some"
    command = [*SEGUE, "--sweep", str(asked), "--results", str(results), "--processes", "1"]
    # A shell without job control has its background commands ignore SIGINT, and so their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sweeping = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with sweeping:
        wait_until(lambda: one_is_done(results), "a first result")
        theirs = proc.tree(sweeping.pid)
        os.killpg(sweeping.pid, signal.SIGINT)
        _, said = sweeping.communicate(timeout=60)
    assert sweeping.returncode == 130
    assert "of 200 configurations are done; the same command goes on" in said
    assert said.count("\n") == 1
    wait_until(lambda: not [pid for pid in theirs if proc.start_time(pid) is not None], "their end")


def finished(asked: Path) -> None:
    """Its results are there."""
    sweep = parse(asked.read_text())
    with Results(f"{asked}.results", sweep.digest) as kept:
        for number, one in enumerate(sweep.configurations):
            kept.add(number, result(one))


def test_all_that_is_done_is_drawn_without_a_process(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each configuration with the figures that differ, and the sum."""
    finished(asked)
    assert main(["plan", "--sweep", str(asked)]) == 0
    said = capsys.readouterr().out
    assert "kept 100, rate 900" in said
    assert "All together: close" in said


def test_a_page_has_pictures_of_what_differs(asked: Path) -> None:
    """Bars for all ways; for each figure that differs, lines over its values."""
    asked.write_text(TEXT.replace("[service.api]", '[service."<b>"]'))
    finished(asked)
    page = asked.parent / "page.html"
    assert main(["plan", "--sweep", str(asked), "--html", str(page)]) == 0
    text = page.read_text()
    # Of all; of the shop by rate, rtt and kept; of the other by kept.
    assert text.count("<svg ") == 1 + 2 * 3 + 2
    assert text.count("<polyline ") == 4 * 2 * 4
    assert "Connections that one restart loses, by rtt" in text
    assert ">40,200</text>" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "<script" not in text
    assert all(f">{way.name}</text>" in text for way in WAYS)


def test_a_page_is_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    """One forecast is a table."""
    assert main(["plan", "--rate", "5", "--html", "page.html"]) == 2
    assert "give --sweep FILE" in capsys.readouterr().err


def test_results_of_another_sweep_are_refused(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so is a file that has none."""
    other = asked.parent / "other"
    Results(str(other), "another").close()
    assert main(["plan", "--sweep", str(asked), "--results", str(other)]) == 2
    assert "results of another sweep" in capsys.readouterr().err
    other.write_text("notes\n")
    assert main(["plan", "--sweep", str(asked), "--results", str(other)]) == 2
    assert "line 1 is no result" in capsys.readouterr().err
    assert other.read_text() == "notes\n"


@pytest.mark.parametrize(
    "result", ["[", "5", '{"number": 1}', '{"number": 1, "result": {"lost": NaN}}',
               '{"number": 1, "result": {"lost": 1e999}}', '{"number": 1e999, "result": {}}',
               "[" * 99_999]
)  # fmt: skip
def test_results_with_anything_in_them_are_refused(tmp_path: Path, result: str) -> None:
    """With the number of the line."""
    file = tmp_path / "results"
    Results(str(file), "one").close()
    with file.open("a") as more:
        more.write(f"{result}\n")
    with pytest.raises(UsageError, match="line 2 is no result of a sweep"):
        Results(str(file), "one")


def test_a_sweep_is_here_or_elsewhere(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes of a scheduler are not this command's to number."""
    wrong = ["--scheduler", "tcp://127.0.0.1:1", "--processes", "2"]
    assert main(["plan", "--sweep", str(asked), *wrong]) == 2
    assert "leave it or --scheduler out" in capsys.readouterr().err
