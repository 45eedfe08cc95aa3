"""``segue run --object``: a real instance whose connections the program of an object selects."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.bpf.objects import GOLDEN, HOOK, SOCKARRAY, File
from tests.supervisor.instance import SERVER, Instance, load
from tests.waiting import wait_until

from segue.bpf import asm
from segue.bpf.insn import R0, R7, Size
from segue.linux import sysctl

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

LIVE = str(GOLDEN / "live.bpf.o")
TABLE = str(GOLDEN / "table.bpf.o")
UVICORN = (sys.executable, "-m", "uvicorn", "examples.hello:app", "--fd", "3", "--log-level",
           "warning")  # fmt: skip


def variables(one: Instance) -> dict[str, int]:
    """What the object keeps at the only address."""
    found: dict[str, int] = one.status()["fronts"][0]["variables"]
    return found


@pytest.mark.parametrize("command", [SERVER, UVICORN], ids=["asyncio", "uvicorn"])
@pytest.mark.parametrize("path", [LIVE, TABLE], ids=["array", "table"])
def test_restarts_under_load_lose_nothing(
    netns: int, tmp_path: Path, path: str, command: tuple[str, ...]
) -> None:
    """With an object that knows only its array, and with one that reads Segue's table."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with Instance(tmp_path, "--object", path, "--workers", "2", command=command) as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for generation in (2, 3, 4):
                assert one.ask("restart")["generation"] == generation
            assert one.ask("restart", now=True)["generation"] == 5
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 50
        one.wait_serving(5, 2)
        status = one.status()
        assert (status["cut"], status["engine"], status["object"]) == (0, "migrate", path)
        assert f"the program of {path} selects" in one.said()
        if path == LIVE:
            kept = variables(one)
            assert kept["segue_live"] == 2
            assert kept["selected"] >= result.total - 10  # but for those before the first share
        else:
            assert status["fronts"][0]["counts"]["new"] >= result.total
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_a_canary_needs_a_table(netns: int, tmp_path: Path) -> None:
    """An array has no part of a share; with the table of Segue an object has them."""
    with Instance(tmp_path, "--object", LIVE) as one:
        one.wait_serving()
        answer = one.ask("restart", canary=10)
        assert (answer["exit"], "a canary needs an object with the maps" in answer["error"]) == (
            1,
            True,
        )
        one.wait_serving()
    shutil.rmtree(tmp_path / "run")
    with Instance(tmp_path, "--object", TABLE) as one:
        one.wait_serving()
        assert one.ask("restart", canary=10)["percent"] == 10
        one.ask("promote")
        one.wait_serving(2)


def test_a_crash_and_a_dead_supervisor_lose_nothing(netns: int, tmp_path: Path) -> None:
    """A worker is replaced; the next supervisor loads the object anew and goes on."""
    with Instance(tmp_path, "--object", LIVE, "--workers", "2") as one:
        one.wait_serving(1, 2)
        os.kill(one.workers("serving")[0]["pid"], 9)
        wait_until(lambda: "ended by SIGKILL" in one.said() or "while serving" in one.said(), "it")
        one.wait_serving(1, 2)
        one.process.kill()
        one.wait()
        one.again()
        one.wait_serving(1, 2)
        assert variables(one)["segue_live"] == 2
        with load() as finish:
            assert one.ask("restart")["generation"] == 2
            assert finish().lost == 0
        one.wait_serving(2, 2)


def test_new_code_takes_an_object_on_and_off(netns: int, tmp_path: Path) -> None:
    """The file of settings names it, then does not: the built-in program is back."""
    config = tmp_path / "segue.toml"
    config.write_text("")
    with Instance(tmp_path, "--config", str(config), "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for text, path in ((f'object = "{LIVE}"', LIVE), ("", "")):
                config.write_text(text)
                before = one.said().count("new code")
                assert one.ask("reexec")["exit"] == 0
                wait_until(lambda: one.said().count("new code") > before, "the new code")  # noqa: B023
                one.wait_serving(1, 2)
                assert one.status()["object"] == path
                assert variables(one).get("segue_live", 0) == (2 if path else 0)
            assert one.ask("restart")["generation"] == 2
            assert finish().lost == 0


def test_new_code_reads_the_object_again(netns: int, tmp_path: Path) -> None:
    """A re-exec is how its program is replaced under load; one that the kernel refuses, or that
    is no policy any more, leaves the old one in force.
    """
    mine = tmp_path / "mine.bpf.o"
    shutil.copy(LIVE, mine)
    with Instance(tmp_path, "--object", str(mine), "--workers", "2") as one:
        one.wait_serving(1, 2)
        refused = File()
        refused.function(HOOK, [asm.load(Size.U64, R0, R7, 0), asm.leave()])
        refused.maps(sockets=SOCKARRAY)
        for data, why in (
            (b"no object", "cannot be used as a policy"),
            (refused.build(), "R7 !read_ok"),
        ):
            mine.write_bytes(data)
            answer = one.ask("reexec")
            assert (answer["exit"], why in answer["error"]) == (1, True), answer
        assert variables(one)["segue_live"] == 2
        with load() as finish:
            shutil.copy(TABLE, mine)
            assert one.ask("reexec")["exit"] == 0
            wait_until(lambda: "new code" in one.said(), "the new code")
            one.wait_serving(1, 2)
            assert one.ask("restart")["generation"] == 2
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert variables(one) == {}
        assert one.status()["fronts"][0]["counts"]["new"] > 0
