"""What ``segue rescue`` refuses, in one sentence, and with nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.test_attach import plain
from tests.supervisor.attaching import Attach, Servers, answered_by, pinned, servers
from tests.supervisor.instance import Instance
from tests.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


@pytest.fixture
def pool(netns: int) -> Iterator[Servers]:
    """Servers in this test's namespace."""
    with servers() as made:
        yield made


def refused(
    tmp_path: Path, bpffs: str, *flags: str, before: tuple[str, ...] = ()
) -> tuple[int, str]:
    """The exit code and all that it said; nothing is pinned afterwards."""
    with Attach(tmp_path, bpffs, *flags, before=before, verb="rescue") as one:
        code, said = one.wait(), one.said()
    assert "Traceback" not in said
    assert pinned(bpffs) == []
    return code, said


def test_too_few_listen(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """Nobody, or one alone, who would have nobody to take over."""
    code, said = refused(tmp_path, bpf_directory)
    assert (code, "no process listens at 127.0.0.1:8080" in said) == (2, True)
    pool.plain()
    code, said = refused(tmp_path, bpf_directory)
    assert (code, "one listener only at 127.0.0.1:8080" in said) == (2, True)
    assert sum(answered_by(5).values()) == 5


def test_what_segue_run_owns(netns: int, tmp_path: Path, bpf_directory: str) -> None:
    """It rescues by itself: found by its workers, named where an instance of ours has them."""
    (tmp_path / "other").mkdir()
    with Instance(tmp_path, "--workers", "2") as instance:
        instance.wait_serving(1, 2)
        code, said = refused(tmp_path, bpf_directory, "--name", "u")
        assert (code, "--rescue): segue restart --name t" in said) == (2, True), said
        code, said = refused(tmp_path / "other", bpf_directory)
        assert (code, "(segue run --rescue)" in said, "--name t" in said) == (2, True, False), said
        with Attach(tmp_path, bpf_directory, verb="rescue") as one:
            assert one.wait() == 2
            assert "is served by segue run (t): use its option --rescue" in one.said()
        assert instance.status()["phase"] == "serving"


@pytest.mark.parametrize(
    ("dropped", "said"), [("bpf,-sys_admin", "CAP_BPF"), ("sys_ptrace", "CAP_SYS_PTRACE")]
)
def test_a_missing_capability_is_named(
    pool: Servers, tmp_path: Path, bpf_directory: str, dropped: str, said: str
) -> None:
    """Which one, and what it is for."""
    for _ in range(2):
        pool.start("setpriv", "--reuid", "65534", "--clear-groups", *plain())
    without = ("setpriv", f"--bounding-set=-{dropped}", f"--inh-caps=-{dropped}")
    code, told = refused(tmp_path, bpf_directory, before=without)
    assert (code, said in told) == (1, True), told


def test_who_may_not_be_stopped_for_a_moment_is_left_alone(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A cycle that its owner sees may end its service: without CAP_KILL it is not made."""
    for _ in range(2):
        pool.start("setpriv", "--reuid", "65534", "--clear-groups", *plain())
    without = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
    with Attach(tmp_path, bpf_directory, before=without, verb="rescue") as one:
        wait_until(lambda: one.said().count("which needs CAP_KILL") == 2, "both left alone")
        wait_until(lambda: "looks after 0 listener(s)" in one.said(), "nobody looked after")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--after", "soon"), "--after must be a time such as 50ms or 1s (got 'soon')"),
        (("--after", "1ms"), "--after must be between 10ms and 60s (got 1ms)"),
        (("--after", "off"), "must be a time such as 50ms or 1s (got off)"),
        (("--netns", "no-such-namespace"), "does not name a network namespace"),
    ],
)
def test_nonsense_is_usage(
    netns: int, tmp_path: Path, bpf_directory: str, flags: tuple[str, ...], said: str
) -> None:
    """Exit code 2 before anything is touched."""
    code, told = refused(tmp_path, bpf_directory, *flags)
    assert (code, said in told) == (2, True), told


def test_attach_tells_a_senseless_time(netns: int, tmp_path: Path, bpf_directory: str) -> None:
    """As segue run does."""
    with Attach(tmp_path, bpf_directory, "--rescue", "2m") as one:
        assert one.wait() == 2
        assert "--rescue must be a time such as 50ms or 1s, or off (got '2m')" in one.said()
