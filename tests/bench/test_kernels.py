"""Other kernels: which is meant by a name, and what is said of what was found on it."""

from __future__ import annotations

import json
import platform
import shutil
from typing import Any

import pytest
from bench.kernels import fetch, host, inside, missing, table, wishes
from bench.kernels.__main__ import PAGE, main, results
from bench.kernels.fetch import Offer

from segue.engine.defects import KernelRelease
from segue.errors import NotSupported, UsageError

OFFERS = [
    Offer("bookworm", "linux-image-6.1.0-47-cloud-amd64", "6.1.170-3"),
    Offer("bookworm", "linux-image-6.1.0-50-cloud-amd64", "6.1.176-1"),
    Offer("trixie-backports", "linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
    Offer("sid", "linux-image-7.2.13+deb14-cloud-amd64", "7.2.13-1"),
]


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("6.1", "6.1.176"),
        ("6.1.170", "6.1.170"),
        ("newest", "7.3.4"),
        ("7.2", "7.2.13"),
        ("bookworm/linux-image-6.1.0-47-cloud-amd64", "6.1.170"),
    ],
)
def test_a_name_means_the_newest_kernel_that_has_it(name: str, kernel: str) -> None:
    """By numbers and not by letters; a package by its own name."""
    assert fetch.choose(name, OFFERS).kernel == kernel


def test_a_kernel_that_is_not_offered_is_refused_with_those_that_are() -> None:
    """6.1.17 is no 6.1.170, and a package of another suite is another."""
    for name in ("6.1.17", "sid/linux-image-6.1.0-47-cloud-amd64"):
        with pytest.raises(UsageError, match=r"it has 6\.1\.170, 6\.1\.176, 7\.2\.13, 7\.3\.4"):
            fetch.choose(name, OFFERS)


def test_where_a_kernel_is_looked_for() -> None:
    """In the suite of its branch, in those of newer ones, or where its name says."""
    assert fetch.suites("5.10.223") == fetch.suites("5.10") == ("bullseye",)
    assert "sid" in fetch.suites("newest")
    assert fetch.suites("forky/linux-image-7.2.12+deb14-cloud-amd64") == ("forky",)


@pytest.mark.parametrize("name", ["6", "latest", "6.1-rc1", "sid/../x", "sid/bash", "", "6.1."])
def test_what_is_no_kernels_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """2, and how one is written, before anything is fetched."""
    assert main([name]) == 2
    assert "write a version (6.1, 6.1.170), newest" in capsys.readouterr().err


def test_a_step_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """By name, with those that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["--only", "dance"])
    assert ended.value.code == 2
    assert "write some of kernel, choice" in capsys.readouterr().err


def test_what_is_missing_is_said_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it in one sentence."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"cpio", "busybox"} else name)
    said = r"busybox, cpio \(apt-get install busybox-static cpio\)"
    with pytest.raises(NotSupported, match=said):
        host.check()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(NotSupported, match="an x86-64 machine; here: aarch64"):
        host.check()


@pytest.mark.parametrize(
    ("release", "migrated", "woken", "agree"),
    [
        ("5.10.223", False, False, True),
        ("5.10.223", True, True, False),
        ("6.1.170", True, False, True),
        ("6.1.170", True, True, False),
        ("6.1.176", True, True, True),
        ("6.1.176", False, False, False),
        ("6.12.0-55.el10.x86_64", True, False, None),
    ],
)
def test_the_live_test_is_held_against_the_table(
    release: str, migrated: bool, woken: bool, agree: bool | None
) -> None:
    """Where the version says something; of a frozen one it says nothing."""
    running = KernelRelease.parse(release)
    assert running is not None
    assert inside.agreement(running, migrated=migrated, woken=woken) is agree


def test_the_last_words_of_pytest_are_counted() -> None:
    """Also when it was interrupted, or said nothing."""
    last = "2 failed, 41 passed, 3 skipped, 1 error in 9s"
    said = f"FAILED tests/a.py::b - E\nERROR tests/c.py\n{last}\n"
    assert inside.summary(said) == {
        "passed": 41,
        "failed": 3,
        "skipped": 3,
        "failures": ["FAILED tests/a.py::b - E", "ERROR tests/c.py"],
    }
    assert inside.summary("")["passed"] == 0


CARRIED = {"carried": True, "woken": True, "why": ""}


def uncarried(why: str) -> dict[str, Any]:
    """The step of a kernel on which nothing was carried."""
    return {"carried": False, "woken": False, "why": why}


def found(kernel: str, **changes: Any) -> table.Found:
    """A kernel on which everything is as it should be, but for the changes by step."""
    clients = {"asked": 24, "answered": 24, "longest_ms": 170.0, "lost": 0}
    load = {"attempts": 305, "lost": 0, "max_ms": 9.0, "kinds": {}, "said": []}
    tests = {"passed": 9, "failed": 0, "skipped": 1, "failures": [], "in_time": True}
    steps: dict[str, Any] = {
        "kernel": {"release": kernel},
        "choice": {"engine": "migrate", "nudge": True, "agree": True},
        "policies": {"policies": 7, "refused": {}},
        "carry": uncarried("needs Linux 6.9") if kernel < "6.12" else CARRIED,
        "restarts": load,
        "kills": load | {"accepted": 2},
        "stall": clients,
        "queue": clients,
        "tests/linux": tests,
        "tests/engine": tests,
        "no-tcp-diag": {"untold": []},
    }
    steps = {name: {**step, "commit": "abc1234"} for name, step in steps.items()}
    for name, change in changes.items():
        step = name.replace("_", "/" if name.startswith("tests") else "-")
        steps[step] = {**steps[step], **change}
    made = {"kernel": kernel, "taken": "2026-11-28T18:00:00+00:00", "commit": "abc1234"}
    return {**made, "asked": list(table.STEPS), "steps": steps, "trouble": []}


def test_a_kernel_on_which_all_is_well_has_nothing_said_of_it() -> None:
    """And one that cannot migrate may refuse policies, and leave a stalled worker's queue alone."""
    assert table.wrong(found("6.1.170")) == []
    old = found("5.10.223", policies={"refused": {"shares": "x"}}, stall={"answered": 10})
    assert table.wrong(old) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choice": {"agree": False}}, "the live test and the table of versions differ"),
        ({"policies": {"refused": {"shares": "R1"}}}, "the policy shares is refused: R1"),
        ({"restarts": {"lost": 2, "kinds": {"reset": 2}}}, "restarts lost 2: {'reset': 2}"),
        ({"kills": {"said": ["x failed"]}}, "kills: the supervisor said: x failed"),
        ({"kills": {"lost": 3, "late_ms": 2345.6}}, "so busy that the probe was 2.3 s late"),
        ({"kills": {"lost": 3}}, "kills lost 3, and the workers had accepted 2: {}"),
        ({"stall": {"answered": 10}}, "stall: not everybody was answered"),
        ({"queue": {"lost": 1}}, "queue: 1 clients had no answer"),
        ({"tests_linux": {"failures": ["FAILED a"], "failed": 1}}, "FAILED a"),
        ({"tests_engine": {"in_time": False}}, "tests/engine did not end in time"),
        ({"stall": {"error": "TimeoutError: no"}}, "stall: TimeoutError: no"),
        ({"carry": uncarried("EPERM")}, "before Linux 6.9 is not said: EPERM"),
        ({"no_tcp_diag": {"untold": ["without tcp_diag, x"]}}, "without tcp_diag, x"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(changes: dict[str, Any], said: str) -> None:
    """Each in a sentence, and nothing else; a killed worker's losses are its own."""
    (only,) = table.wrong(found("6.1.170", **changes))
    assert said in only
    assert table.wrong(found("6.1.170", kills={"lost": 2})) == []


def test_from_6_9_on_a_connection_has_to_be_carried() -> None:
    """And its new listener to wake; why it was not carried is said, on old kernels too."""
    (only,) = table.wrong(found("6.12.43", carry=uncarried("no types")))
    assert only == "a connection was not carried: no types"
    (only,) = table.wrong(found("7.3.4", carry={"woken": False}))
    assert "did not wake" in only
    text = table.markdown([found("6.1.170"), found("7.3.4")])
    assert text.endswith("`segue doctor` says why:\n\n- 6.1.170: `needs Linux 6.9`\n")


SERVED = {"exit": None, "said": ""}
REFUSED = {"exit": 1, "said": "segue: --carry app needs Linux 6.9 or later"}
TOLD = {"exit": None, "said": "segue: kept connections will be carried to the next workers"}


@pytest.mark.parametrize(
    ("can", "answers", "said"),
    [
        (True, {"auto": SERVED, "app": SERVED, "http": TOLD}, ""),
        (False, {"auto": SERVED, "app": REFUSED, "http": REFUSED}, ""),
        (True, {"http": REFUSED}, "--carry http ended with 1"),
        (False, {"auto": REFUSED}, "--carry auto ended with 1"),
        (False, {"auto": TOLD}, "--carry auto says: segue: kept"),
        (False, {"app": SERVED}, "--carry app was not refused in a sentence"),
        (False, {"app": {"exit": 1, "said": "EPERM"}}, "--carry app was not refused in a sentence"),
    ],
)
def test_a_wish_to_carry_is_granted_or_refused_by_what_the_kernel_can(
    can: bool, answers: dict[str, Any], said: str
) -> None:
    """Auto serves without a word of it where it cannot; of the others it says why."""
    found = wishes.faults(answers, can=can)
    assert [one.startswith(said) for one in found] == [True] * bool(said)


def test_the_table_says_which_wishes_were_refused() -> None:
    """Beside what was carried; and a fault of a wish stands among the others."""
    refused = {"auto": SERVED, "app": REFUSED, "http": REFUSED}
    assert "no; app and http refused" in table.markdown(
        [found("6.1.170", carry={"wishes": refused})]
    )
    (only,) = table.wrong(found("6.1.170", carry={"wishes": {"app": SERVED}}))
    assert only.startswith("--carry app was not refused")


@pytest.mark.parametrize(
    ("code", "text", "why"),
    [
        (1, f"segue: listing needs {missing.NAMED}\n", ""),
        (1, f"segue: listing needs\n{missing.NAMED}\n", "2 lines, and not one: segue: listing"),
        (0, f"{missing.NAMED}\n", "the exit code was 0: tcp_diag"),
        (1, "segue: ENOENT\n", "the module is not named: segue: ENOENT"),
        (1, "Traceback (most\nKeyError: x\n", "a traceback: KeyError: x"),
    ],
)
def test_a_command_without_tcp_diag_says_one_sentence(code: int, text: str, why: str) -> None:
    """With the module's name, and the exit code that belongs to it."""
    said = missing.fault(missing.Expected(1), code, text)
    assert said.startswith(why)
    assert bool(said) == bool(why)


def test_the_modules_of_this_host_are_left_alone() -> None:
    """The step that takes one out is for a virtual machine."""
    with pytest.raises(RuntimeError, match="left alone"):
        missing.tcp_diag()


def test_a_machine_that_ended_early_or_complained_is_no_success() -> None:
    """The first step that is missing, and the console's line."""
    one = found("6.1.170") | {"trouble": ["BUG: x"]}
    del one["steps"]["tests/linux"]
    assert table.wrong(one) == ["it ended before tests/linux", "the kernel said: BUG: x"]


def test_kernels_stand_in_the_order_of_their_versions() -> None:
    """With the cells that a reader compares; a step that was not had is a dash."""
    new, old = found("6.1.170"), found("5.10.223", stall={"error": "x"})
    del new["steps"]["queue"]
    heading, *lines = table.rows([new, old])
    assert heading[:3] == ["Linux", "engine", "test and table"]
    assert [line[0] for line in lines] == ["5.10.223", "6.1.170"]
    assert lines[1][1:] == [
        *("migrate, with a nudge", "agree", "7 of 7", "no", "0 of 305", "0 of 305, 2 accepted"),
        *("24 of 24 in 0.17 s", "-", "9 / 0 / 1", "9 / 0 / 1", "said"),
    ]
    assert lines[0][7] == "failed"


def test_a_step_that_is_run_again_takes_its_own_place() -> None:
    """Of the same kernel only; of which project it is, it says."""
    old = found("6.1.170", restarts={"lost": 2}) | {"version": "6.1.170-3"}
    step = {"restarts": {"lost": 0}}
    again = {**old, "asked": ["restarts"], "steps": step, "trouble": ["BUG: x"]}
    kept = table.merged(old, again)
    assert kept["steps"] == old["steps"] | step
    assert (kept["asked"], kept["trouble"]) == (list(table.STEPS), ["BUG: x"])
    only = {"restarts": found("6.1.170", restarts={"commit": "def5678"})["steps"]["restarts"]}
    later = table.merged(old, again | {"commit": "def5678", "steps": only})
    assert later["steps"] == old["steps"] | only
    assert "| 2026-11-28 (abc1234, def5678) |" in table.markdown([later])
    other = again | {"version": "6.1.171-1"}
    assert table.merged(old, other) == other
    assert table.merged(None, again) == again


def test_progress_is_said_in_the_words_of_the_table() -> None:
    """And what is no step's line, as it is."""
    step = {"step": "restarts", "lost": 0, "attempts": 305, "took_s": 21.2}
    assert table.progress(json.dumps(step)) == "restarts: 0 of 305 (21 s)"
    assert table.progress("a word") == "a word"


def test_the_page_has_the_table_of_the_kept_results() -> None:
    """``python -m bench kernels`` writes both."""
    kept = results()
    assert table.markdown(kept) in PAGE.read_text()


def test_the_page_says_what_was_wrong_on_a_kernel() -> None:
    """Below the table, each in a line; and nothing where nothing was."""
    bad = found("6.1.170", restarts={"lost": 2, "kinds": {"reset": 2}})
    text = table.markdown([found("5.10.223"), bad])
    assert text.endswith("\nNot as it should be:\n\n- 6.1.170: `restarts lost 2: {'reset': 2}`\n")
    assert "Not as" not in table.markdown([found("5.10.223")])
