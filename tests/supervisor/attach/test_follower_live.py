"""``segue attach``: servers that Segue did not start, restarted their own way."""

from __future__ import annotations

import errno
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import (
    HERE,
    Attach,
    Servers,
    answered_by,
    listening,
    pinned,
    servers,
)
from tests.supervisor.instance import load
from tests.waiting import PATIENCE, wait_until

from segue.address import Address
from segue.engine import classic_program
from segue.engine.duplicate import duplicate, find
from segue.errors import KernelError
from segue.linux import cbpf, sysctl
from segue.linux.bpf import detach_reuseport
from segue.observe.snapshot import Observer
from segue.supervisor.workers.readiness import NEVER

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]

BIN = Path(sys.executable).parent
BY_RELEASE = ("--generation-by", "env:RELEASE")


@pytest.fixture
def pool(netns: int) -> Iterator[Servers]:
    """Servers in this test's namespace, where the kernel migrates nothing by itself."""
    sysctl.write("net.ipv4.tcp_migrate_req", "0")
    with servers() as made:
        yield made


# A server that answers well only who asks for its name, with a header of the service's own.
CHOOSY = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(100)
while True:
    client = listener.accept()[0]
    asked = client.recv(65536).lower()
    if asked:
        known = b"host: shop.example\\r" in asked and b"x-from: balancer\\r" in asked
        status = b"302 Found" if known else b"400 Bad Request"
        client.sendall(b"HTTP/1.1 %s\\r\\nContent-Length: 0\\r\\n\\r\\n" % status)
    client.close()
"""


def restart_in_turn(pool: Servers, rounds: int) -> None:
    """Two plain servers, each stopped and then started again, so often."""
    for _ in range(rounds):
        for old in list(pool.running):
            pool.stop(old)
            pool.plain(1, 50)


def test_what_servers_lose_by_their_restarts_they_lose_no_more(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """The same two plain servers, the same restarts, under the same load: before, and attached."""
    pool.plain(1, 50)
    pool.plain(1, 50)
    with load("--rate", "200") as finish:
        restart_in_turn(pool, 2)
        before = finish()
    assert before.lost > 0
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        with load("--rate", "200") as finish:
            restart_in_turn(pool, 2)
            after = finish()
        assert after.lost == 0, (after.counts, after.examples, one.said())
        assert after.total > 50
        one.wait_attached(2)
        assert one.front()["counts"]["child"] > 0
        # Of two servers that were started anew in turn, neither gets more than the other.
        assert {worker["share"] for worker in one.status()["workers"]} == {50.0}


def test_a_policy_of_ones_own_selects(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """As Segue's own does; the next attach goes on with it, and one of another policy does not."""
    pool.plain(1, 50)
    pool.plain(1, 50)
    with Attach(tmp_path, bpf_directory, "--policy", "sticky") as one:
        one.wait_attached(2)
        with load("--rate", "200") as finish:
            restart_in_turn(pool, 2)
            one.kill()
            one.again()
            one.wait_attached(2)
            after = finish()
        assert after.lost == 0, (after.counts, after.examples, one.said())
        assert "found again" in one.said()
        one.kill()
        one.argv[-1] = "never_migrate"
        one.again()
        assert one.wait() == 2
        assert "is steered by policy sticky; segue detach it first" in one.said()


def test_a_whole_new_set_takes_over_and_the_old_one_gets_nothing_more(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Newest first; both listeners of the new generation share, and the old two only finish."""
    old = [pool.plain(), pool.plain()]
    with Attach(tmp_path, bpf_directory, *BY_RELEASE) as one:
        one.wait_attached(2)
        assert set(answered_by(40)) == {server.pid for server in old}
        new = [pool.plain(release="2"), pool.plain(release="2")]
        one.wait_attached(4).wait_share(2, 100)
        assert set(answered_by(40)) == {server.pid for server in new}
        for server in old:
            pool.stop(server)
        one.wait_attached(2)
        assert one.shares() == {2: 100}


def test_a_worker_that_is_started_again_is_of_its_release(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Blue and green side by side: green takes over, and a new blue one changes nothing."""
    blue = [pool.plain(release="blue"), pool.plain(release="blue")]
    with Attach(tmp_path, bpf_directory, *BY_RELEASE) as one:
        one.wait_attached(2)
        green = {pool.plain(release="green").pid, pool.plain(release="green").pid}
        one.wait_attached(4).wait_share(2, 100)
        pool.stop(blue[0])
        pool.plain(release="blue")
        one.wait_attached(4)
        assert one.shares() == {1: 0, 2: 100}
        assert set(answered_by(30)) == green


def test_a_newcomer_gets_nothing_before_it_is_in_the_table(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Not even by hash, while the one who would put it in stands still; then it gets its share."""
    old = pool.plain()
    with Attach(tmp_path, bpf_directory, "--together", "0") as one:
        one.wait_attached(1)
        one.process.send_signal(signal.SIGSTOP)
        new = pool.plain()
        assert answered_by(100) == {old.pid: 100}
        one.process.send_signal(signal.SIGCONT)
        one.wait_attached(2).wait_share(2, 100)
        assert answered_by(20) == {new.pid: 20}


def test_a_newcomer_gets_nothing_before_it_accepts(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """One that listens and is not ready yet would make its clients wait."""
    old = pool.plain()
    with Attach(tmp_path, bpf_directory, "--together", "0") as one:
        one.wait_attached(1)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            slow.bind((HERE.host, HERE.port))
            slow.listen()
            wait_until(
                lambda: [it["missing"] for it in one.workers("starting")] == [NEVER],
                "the newcomer, and what it lacks",
            )
            assert answered_by(40) == {old.pid: 40}
            knock, _ = slow.accept()
            with knock:
                one.wait_attached(2)
                assert [worker["share"] for worker in one.status()["workers"]] == [50, 50]


def test_a_killed_one_is_found_again(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """After kill -9 the kernel goes on; the next attach has counters, generations and shares."""
    old = pool.plain()
    with Attach(tmp_path, bpf_directory, "--together", "0") as one:
        one.wait_attached(1)
        answered_by(30)
        new = pool.plain()
        one.wait_attached(2).wait_share(2, 100)
        assert one.ask("shift", percent=25)["exit"] == 0
        before = one.front()["counts"]
        shares = one.shares()
        one.kill()
        found = answered_by(40)
        assert sum(found.values()) == 40
        third = pool.plain()
        one.again()
        one.wait_attached(3)
        assert "found again" in one.said()
        status = one.status()
        assert one.front()["counts"]["new"] >= before["new"] + 40
        generations = {worker["pid"]: worker["generation"] for worker in status["workers"]}
        assert generations == {old.pid: 1, new.pid: 2, third.pid: 3}
        assert shares == {1: 75, 2: 25}


def test_files_that_somebody_removed_are_made_again(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Socket, lock and record: orders are heard, and a second one of the name is refused."""
    pool.plain(1, 50)
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(1)
        files = [Path(tmp_path, "run", f"t.{kind}") for kind in ("sock", "lock", "json")]
        for file in files:
            file.unlink()
        wait_until(lambda: all(file.exists() for file in files), "the files are there again")
        assert one.status()["name"] == "t"
        second = subprocess.run(
            one.argv, env=one.env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert second.returncode == 1
        assert f"already running (pid {one.process.pid})" in second.stderr


def test_without_a_record_the_pins_are_enough(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Whoever cleaned the directory took the generations' numbers with it, and no connection."""
    server = pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(1)
        answered_by(30)
        one.kill()
        (tmp_path / "run" / "t.json").unlink()
        one.again()
        one.wait_attached(1)
        assert "found again" in one.said()
        assert answered_by(10) == {server.pid: 10}
        pool.plain()
        one.wait_attached(2)


def test_ipv6_is_attached_to_as_well(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """A wildcard that takes IPv4 too; clients of both kinds move when a listener goes."""
    everywhere = Address("::", HERE.port)
    first, second = pool.plain(address=everywhere), pool.plain(address=everywhere)
    with Attach(tmp_path, bpf_directory, address=everywhere) as one:
        one.wait_attached(2)
        for clients in (HERE, Address("::1", HERE.port)):
            assert set(answered_by(40, clients)) == {first.pid, second.pid}
        with load("--rate", "200") as finish:
            pool.stop(first)
            one.wait_attached(1)
            assert finish().lost == 0


def test_detach_leaves_the_group_as_it_was_found(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """No program, no pin, no record; the servers go on, and what they lose is theirs again."""
    pool.plain()
    pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        done = one.detach()
        assert (done.returncode, "the kernel distributes its connections again" in done.stdout) == (
            0,
            True,
        ), done
        assert one.wait() == 0
        assert not attached_program()
        assert pinned(bpf_directory) == []
        assert os.listdir(tmp_path / "run") == ["t.lock"]
        assert sum(answered_by(20).values()) == 20
        assert one.detach().returncode == 1


def test_detach_without_anybody_who_attends(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """SIGTERM leaves the program in force; detach takes it off all the same."""
    pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(1)
        one.process.terminate()
        assert one.wait() == 0
        assert os.listdir(f"{bpf_directory}/segue") == ["t"]
        pool.plain()
        assert len(answered_by(30)) == 1
        assert one.detach().returncode == 0
        assert not attached_program()
        assert pinned(bpf_directory) == []
        assert len(answered_by(60)) == 2


def test_detach_when_all_whom_the_table_had_have_gone(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """The group and its program live on by those who came while nobody followed."""
    old = pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(1)
        one.process.terminate()
        assert one.wait() == 0
        pool.plain()
        pool.stop(old)
        assert one.detach().returncode == 0
        assert not attached_program()


def attached_program() -> bool:
    """Whether the group has a program, which is gone afterwards."""
    with Observer() as observer:
        taken = duplicate(find(observer, HERE)[0])
    assert taken is not None
    with taken:
        try:
            detach_reuseport(taken.fileno())
        except KernelError as error:
            return error.errno != errno.ENOENT
    return True


def restored(one: Attach, times: int) -> bool:
    return bool(one.front()["restored"] == times)


def program_taken_off() -> None:
    assert attached_program()


def another_program_attached() -> None:
    """As by a server that attaches its own: this one leaves everything to the kernel's hash."""
    with Observer() as observer:
        taken = duplicate(find(observer, HERE)[0])
    assert taken is not None
    with taken:
        cbpf.attach_reuseport(taken, classic_program.steer({}, {}))


@pytest.mark.parametrize("do", [program_taken_off, another_program_attached])
def test_a_program_that_was_taken_off_or_exchanged_is_put_back(
    pool: Servers, tmp_path: Path, bpf_directory: str, do: Callable[[], None]
) -> None:
    """Each time, and counted; until then some go to the old set, as the kernel's hash has it."""
    pool.plain()
    pool.plain()
    with Attach(tmp_path, bpf_directory, *BY_RELEASE) as one:
        one.wait_attached(2)
        new = {pool.plain(release="2").pid, pool.plain(release="2").pid}
        one.wait_attached(4).wait_share(2, 100)
        for time in (1, 2):
            do()
            wait_until(functools.partial(restored, one, time), "the program is back")
            assert set(answered_by(40)) == new
        assert "was gone or exchanged, most likely by its server: it is back" in one.said()


def test_shifts_and_weights_are_followed_at_once(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A part, all, nothing and back under load, and a worker at half: none is lost."""
    old = [pool.plain(), pool.plain()]
    with Attach(tmp_path, bpf_directory, *BY_RELEASE, "--canary", "0") as one:
        one.wait_attached(2)
        assert one.ask("shift", percent=5)["exit"] == 2
        new = [pool.plain(release="2"), pool.plain(release="2")]
        one.wait_attached(4)
        assert one.shares() == {1: 100, 2: 0}
        with load("--rate", "200") as finish:
            for percent in (5.0, 25.0, 100.0, 50.0, 100.0):
                assert one.ask("shift", percent=percent)["percent"] == percent
                assert one.shares() == {1: 100 - percent, 2: percent}
            assert set(answered_by(20)) == {server.pid for server in new}
            assert one.ask("rollback")["exit"] == 0
            assert set(answered_by(20)) == {server.pid for server in old}
            result = finish()
        assert result.lost == 0, (result.counts, result.examples)
        first = one.workers("serving")[0]
        assert one.ask("weights", weights={str(first["id"]): 0.25})["exit"] == 0
        assert [worker["share"] for worker in one.workers("serving")] == [20, 80]
        assert one.ask("weights", weights={"99": 1})["exit"] == 2
        assert "restarted their own way" in one.ask("restart")["error"]


def test_a_killed_newcomer_loses_only_what_it_had_accepted(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A canary that dies by SIGKILL: its queue goes to the others."""
    pool.plain()
    with Attach(tmp_path, bpf_directory, "--together", "0", "--canary", "50") as one:
        one.wait_attached(1)
        for _ in range(3):
            newcomer = pool.plain(20)
            one.wait_attached(2)
            with load("--rate", "150") as finish:
                wait_until(functools.partial(crowded, newcomer.pid), "a queue at the newcomer")
                pool.stop(newcomer, signal.SIGKILL)
                one.wait_attached(1)
                result = finish()
            # It works on one at a time.
            assert result.lost <= 1, (result.counts, result.examples, one.said())
            assert result.total > 5


def crowded(pid: int) -> bool:
    """Some wait at the listener of this process."""
    with Observer() as observer:
        group = observer.snapshot(HERE, pids=frozenset({pid}))
    return sum(one.queue for one in group.listeners if one.owners) > 3


def test_a_listener_that_was_shut_down_and_listens_again_is_put_back(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """The kernel takes it out of the table and puts it back for nobody."""
    one_server, other = pool.plain(), pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(2)
        one_server.send_signal(signal.SIGUSR1)
        wait_until(lambda: set(answered_by(20)) == {one_server.pid, other.pid}, "both of them")
        one.wait_attached(2)
        # The only one left loses the program as well, and gets it again.
        pool.stop(other)
        one.wait_attached(1)
        one_server.send_signal(signal.SIGUSR1)
        newcomer = pool.plain()
        one.wait_attached(2)
        assert set(answered_by(30)) == {one_server.pid, newcomer.pid}


def test_a_group_that_was_empty_is_attached_again(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A program goes with the last listener; whoever comes next is under it again."""
    with Attach(tmp_path, bpf_directory) as nobody:
        assert nobody.wait() == 2
        assert "no process listens at 127.0.0.1:8080" in nobody.said()
    first = pool.plain()
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(1)
        pool.stop(first)
        one.wait_attached(0)
        pool.plain()
        one.wait_attached(1)
        counted = one.front()["counts"]["new"]
        answered_by(10)
        assert one.front()["counts"]["new"] >= counted + 10


def test_another_network_namespace_is_entered_by_pid(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Its listeners, its clients; from outside no process listens there."""
    server = pool.plain()
    outside = ("unshare", "--net")
    with Attach(tmp_path, bpf_directory, "--netns", str(server.pid), before=outside) as one:
        one.wait_attached(1)
        answered_by(5)
        assert one.front()["counts"]["new"] >= 5
        # The record knows where it was.
        one.process.terminate()
        assert one.wait() == 0
        assert one.detach().returncode == 0
        assert not attached_program()


@pytest.mark.program("nginx")
def test_nginx_is_reloaded_from_four_workers_to_two(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Two of its listeners close with what waits there; under attach none of that is lost."""
    conf = tmp_path / "nginx.conf"

    def write(workers: int) -> None:
        paths = "".join(
            f"{name}_temp_path {tmp_path}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        conf.write_text(
            f"daemon off;\nworker_processes {workers};\npid {tmp_path}/pid;\n"
            f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{paths}"
            f"server {{ listen {HERE} reuseport; location / {{ return 200 hello; }} }}\n}}\n"
        )

    write(4)
    argv = ("nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/log", "-c", str(conf))
    nginx = pool.start(*argv, listeners=4)
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(4)
        with load("--rate", "300") as finish:
            for workers in (2, 4, 2):
                write(workers)
                nginx.send_signal(signal.SIGHUP)
                wait_until(lambda: len(listening()) == workers, f"{workers} listeners")  # noqa: B023
                one.wait_attached(workers)
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 20


def test_granian_is_replaced_side_by_side(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """A new one beside the old, which is then told to stop, three times."""
    at = ("--host", HERE.host, "--port", str(HERE.port), "--interface", "asgi")
    argv = (str(BIN / "granian"), *at, "--workers", "1", "examples.hello:app")
    old = pool.start(*argv)
    with Attach(tmp_path, bpf_directory, "--together", "0") as one:
        one.wait_attached(1)
        with load("--rate", "200") as finish:
            for generation in (2, 3, 4):
                new = pool.start(*argv)
                one.wait_share(generation, 100)
                pool.stop(old)
                one.wait_attached(1)
                old = new
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert result.total > 20


@pytest.mark.slow
def test_a_reload_inside_one_process_group_is_told_by_process(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """Granian by SIGHUP: the worker that it starts anew is a generation, and gets everything."""
    at = ("--host", HERE.host, "--port", str(HERE.port), "--interface", "asgi")
    argv = (str(BIN / "granian"), *at, "--workers", "1", "examples.hello:app")
    granian = pool.start(*argv)
    flags = ("--generation-by", "process", "--together", "0")
    with Attach(tmp_path, bpf_directory, *flags) as one:
        one.wait_attached(1)
        for generation in (2, 3):
            granian.send_signal(signal.SIGHUP)
            one.wait_share(generation, 100)
            wait_until(lambda: len(one.shares()) == 1, "the old worker's end")


@pytest.mark.slow
def test_gunicorns_workers_recycle(pool: Servers, tmp_path: Path, bpf_directory: str) -> None:
    """Each closes its listener after some requests, and what waits there goes to the others.

    They stay in the generation of their server.  Beside them is one that stays: with all of them
    gone at once there would be nobody to go to.
    """
    argv = (str(BIN / "gunicorn"), "--no-control-socket", "--reuse-port", "-b", str(HERE))
    app = "examples.hello_wsgi:app"
    pool.start(*argv, "-w", "1", app)
    pool.start(*argv, "-w", "2", "--max-requests", "20", app, listeners=2)
    with Attach(tmp_path, bpf_directory) as one:
        one.wait_attached(3)
        seen: set[int] = set()

        def recycled() -> bool:
            seen.update(worker["pid"] for worker in one.status().get("workers", []))
            return len(seen) >= 9

        with load("--rate", "200") as finish:
            wait_until(recycled, "six recycled workers")
            result = finish()
        assert result.lost == 0, (result.counts, result.examples, one.said())
        assert list(one.shares()) == [1]


def test_a_newcomer_is_asked_as_the_flags_say(
    pool: Servers, tmp_path: Path, bpf_directory: str
) -> None:
    """By a name, with a header, for a status; without any of them it would never be ready."""
    flags = ("--ready-http", "/h", "--ready-host", "shop.example", "--ready-status", "200,302")
    pool.plain()
    with Attach(tmp_path, bpf_directory, *flags, "--ready-header", "X-From: balancer") as one:
        one.wait_attached(1)
        pool.start(sys.executable, "-S", "-E", "-c", CHOOSY, HERE.host, str(HERE.port))
        one.wait_attached(2)
