"""``segue run --policy``: a real instance whose connections a policy in Python selects."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.policy.clients import connect
from tests.supervisor.instance import Instance, load

from segue.cli.main import main
from segue.linux import sysctl

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]

OF_ONE = '''
from segue import Map, Verdict, policy

asked = Map("asked", value="u64", size=1, kind="array")


@policy
def careful(conn, group):
    """By the table; nothing that the table does not know is let in."""
    count = asked.get(0)
    if count is not None:
        asked[0] = count + 1
    chosen = group.table.select(conn.hash)
    if not chosen and conn.migrating:
        return Verdict.PASS
    return chosen
'''


@pytest.mark.parametrize("policy", ["sticky", "FILE:careful"])
def test_restarts_under_load_lose_nothing(netns: int, tmp_path: Path, policy: str) -> None:
    """By a policy of the library, and by the user's own; at once, too."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    file = tmp_path / "my.py"
    file.write_text(OF_ONE)
    chosen = policy.replace("FILE", str(file))
    with Instance(tmp_path, "--policy", chosen, "--workers", "2") as one:
        one.wait_serving(1, 2)
        with load() as finish:
            for generation in (2, 3):
                assert one.ask("restart")["generation"] == generation
            assert one.ask("restart", now=True)["generation"] == 4
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 50
        status = one.status()
        assert (status["cut"], status["engine"], status["policy"]) == (0, "migrate", chosen)
        assert status["fronts"][0]["counts"]["new"] >= result.total
        assert f"policy {chosen} selects" in one.said()
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_new_code_reads_the_policy_again(netns: int, tmp_path: Path) -> None:
    """And one that does not compile any more leaves the old program in force."""
    file = tmp_path / "my.py"
    file.write_text(OF_ONE)
    with Instance(tmp_path, "--policy", f"{file}:careful") as one:
        one.wait_serving(1, 1)
        with load() as finish:
            file.write_text(OF_ONE.replace("count + 1", "conn.nothing"))
            refused = one.ask("reexec")
            assert "my.py:12:20: conn has no `nothing`" in refused["error"]
            file.write_text(OF_ONE.replace("count + 1", "count + 2"))
            assert not one.ask("reexec").get("error")
            one.wait_serving(1, 1)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_its_maps_are_shown_and_changed_while_it_runs(
    netns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the next connection on; what makes no sense changes nothing."""
    file = tmp_path / "my.py"
    file.write_text(
        "from segue import Map, Verdict, policy\n"
        "doors = Map('doors', size=4)\n"
        "doors[1] = 0\n"
        "rows = Map('rows', value={'low': 'u8', 'more': 'u64'}, size=4)\n"
        "@policy\n"
        "def doorkeeper(conn, group):\n"
        "    shut = doors.get(1)\n"
        "    row = rows.get(1)\n"
        "    if shut is not None and shut == 1 and row is None:\n"
        "        return Verdict.DROP\n"
        "    return group.table.select(conn.hash)\n"
    )
    with Instance(tmp_path, "--policy", f"{file}:doorkeeper") as one:
        one.wait_serving(1, 1)

        def told(*args: str) -> tuple[int, str]:
            code = main(["policy", "map", "--control", one.control, *args])
            out, err = capsys.readouterr()
            return code, out + err

        assert told() == (0, "doors\nrows\n")
        assert told("doors") == (0, "127.0.0.1:8080 doors[1] = 0\n")
        connect().close()
        assert told("doors", "1=1", "0x2=9")[0] == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", 8080), timeout=0.3)
        assert told("doors", "--delete", "2", "1=0") == (0, "127.0.0.1:8080 doors[1] = 0\n")
        connect().close()
        for args, said in (
            (("nothing",), "the policy has no map 'nothing'; it has doors, rows"),
            (("tables",), "the policy has no map 'tables'"),
            (("doors", "1=0x100000000"), "between 0 and 4294967295"),
            (("doors", "one=1"), "'one=1' is not KEY=VALUE"),
            (("rows", "1=1"), "holds records of 16 bytes"),
        ):
            code, text = told(*args)
            assert (code, said in text) == (2, True), text
        assert told("doors") == (0, "127.0.0.1:8080 doors[1] = 0\n")
        assert one.ask("stop")["exit"] == 0
        one.wait()
