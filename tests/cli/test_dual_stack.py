"""Servers that serve an IPv4 address with an IPv6 socket, named by that address."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import Attach
from tests.supervisor.instance import ROOT
from tests.supervisor.test_dual_stack_live import SERVER
from tests.waiting import wait_until

from segue.address import Address
from segue.cli.main import main
from segue.observe.snapshot import Observer
from segue.supervisor.control.paths import name_of

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]
CASES = pytest.mark.parametrize(
    ("asked", "host"), [("0.0.0.0:8080", "::"), ("127.0.0.1:8080", "::ffff:127.0.0.1")]
)


@pytest.fixture
def server(netns: int, host: str) -> Iterator[None]:
    """It listens at this host."""
    there = Address(host, 8080)
    with subprocess.Popen([*SERVER, host, "8080"], cwd=ROOT) as running, Observer() as observer:
        wait_until(lambda: observer.snapshot(there).listeners, "a listener")
        yield
        running.kill()


@CASES
@pytest.mark.usefixtures("server")
def test_it_is_audited_and_adopted(
    asked: str, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both say where it really listens."""
    assert main(["audit", asked]) == 0
    assert main(["adopt", asked]) == 0
    assert capsys.readouterr().out.count(f"[{host}]:8080") >= 2


@CASES
@pytest.mark.usefixtures("server")
def test_it_is_attached_and_detached(
    asked: str, host: str, tmp_path: Path, bpf_directory: str
) -> None:
    """By the address that was asked for, while somebody attends it and afterwards."""
    with Attach(tmp_path, bpf_directory, address=Address.parse(asked)) as one:
        one.wait_attached(1)
        assert f"[{host}]:8080, 1 listener(s)" in one.said()
        assert subprocess.run(one.off, cwd=ROOT, env=one.env, check=False).returncode == 0
        assert one.wait() == 0
        one.again()
        one.wait_attached(1)
        one.process.terminate()
        assert one.wait() == 0
        assert subprocess.run(one.off, cwd=ROOT, env=one.env, check=False).returncode == 0


@CASES
def test_it_is_found_again_while_no_process_listens(
    netns: int, asked: str, host: str, tmp_path: Path, bpf_directory: str
) -> None:
    """Where it was, though nothing there says so; its end says how to go on, by name."""
    there, argv = Address(host, 8080), [*SERVER, host, "8080"]
    with contextlib.ExitStack() as after, Observer() as observer:
        running = after.enter_context(subprocess.Popen(argv, cwd=ROOT))
        after.callback(running.kill)
        wait_until(lambda: observer.snapshot(there).listeners, "a listener")
        one = after.enter_context(Attach(tmp_path, bpf_directory, address=Address.parse(asked)))
        one.wait_attached(1)
        one.process.terminate()
        assert one.wait() == 0
        assert f"segue attach {there} --name t goes on" in one.said()
        running.kill()
        running.wait()
        one.again()
        wait_until(lambda: f"found again: {there}" in one.said(), "its word")
        another = after.enter_context(subprocess.Popen(argv, cwd=ROOT))
        after.callback(another.kill)
        one.wait_attached(1)
        one.process.terminate()
        assert one.wait() == 0
        assert subprocess.run(one.off, cwd=ROOT, env=one.env, check=False).returncode == 0


def test_an_ipv6_address_gives_a_name_that_says_so() -> None:
    """Nothing but the port would be left of [::]."""
    assert name_of(Address.parse("[::]:8080")) == "ipv6_8080"
    assert name_of(Address.parse("[fe80::1%eth0]:80"), "blue") == "ipv6_fe80_1_eth0_80@blue"
    assert name_of(Address.parse(":8080")) == "0.0.0.0_8080"
