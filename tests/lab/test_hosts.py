"""Hosts: what is in them, and that nothing of them is left."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests import leaks
from tests.waiting import PATIENCE

from segue.errors import KernelError, UsageError
from segue.lab.hosts import QUEUE, Host
from segue.linux import pidfd

pytestmark = pytest.mark.root

STUBBORN = "import signal, time; signal.signal(15, 1); print('deaf', flush=True); time.sleep(600)"


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def gone(process: int) -> bool:
    """The process behind the descriptor has ended; the descriptor is closed."""
    ended = bool(select.select([process], [], [], PATIENCE)[0])
    os.close(process)
    return ended


def test_a_thread_and_a_block_are_in_the_host() -> None:
    """They see its interfaces, and the caller is where it was afterwards, whatever happened."""
    at_home = interfaces()
    with Host("a") as host:
        host.plug("10.9.0.1/24")
        assert host.run(interfaces).result(PATIENCE) == ["lo", "link0"]
        with host.inside():
            assert interfaces() == ["lo", "link0"]
        with pytest.raises(ZeroDivisionError), host.inside():
            _ = 1 // 0
        assert interfaces() == at_home


def test_a_function_that_fails_tells_its_future() -> None:
    """With its own exception, and arguments as they were given."""
    with Host("a") as host:
        assert isinstance(host.run(divmod, 1, 0).exception(PATIENCE), ZeroDivisionError)
        assert host.run(divmod, 7, 2).result(PATIENCE) == (3, 1)


def test_two_hosts_share_nothing() -> None:
    """The same address and port on both; a socket stays where it was made."""
    with Host("a") as one, Host("b") as other:
        made = [
            host.run(socket.create_server, ("127.0.0.1", 80)).result(PATIENCE)
            for host in (one, other)
        ]
        with one.inside(), socket.create_connection(("127.0.0.1", 80), timeout=PATIENCE):
            made[1].setblocking(False)
            with pytest.raises(BlockingIOError):
                made[1].accept()
            made[0].accept()[0].close()
        for listener in made:
            listener.close()


def test_a_program_is_in_the_host() -> None:
    """With Popen's options."""
    with Host("a") as host:
        host.plug("10.9.0.1/24")
        code = "import socket; print([name for _, name in socket.if_nameindex()])"
        program = host.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert program.communicate(timeout=PATIENCE)[0] == "['lo', 'link0']\n"


def test_closing_ends_what_a_program_left_behind() -> None:
    """Its child in a session of its own too, whose parent is gone."""
    host = Host("a")
    shell = host.spawn(
        ["sh", "-c", "setsid sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout is not None
    orphan = pidfd.open_process(int(shell.stdout.readline()))
    shell.wait(PATIENCE)
    host.close()
    assert gone(orphan)
    assert shell.stdout.closed


def test_closing_kills_who_will_not_end() -> None:
    """Once it has had its time."""
    host = Host("a", stop_s=0.01)
    program = host.spawn([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"deaf\n"
    host.close()
    assert program.returncode == -9


def test_a_program_that_went_elsewhere_is_killed_too() -> None:
    """Into a namespace of its own, where no look at the host finds it."""
    host = Host("a", stop_s=0.01)
    code = f"from segue.linux import netns; inside = netns.fresh(); inside.__enter__(); {STUBBORN}"
    program = host.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"deaf\n"
    host.close()
    assert program.returncode == -9


def test_a_program_is_asked_to_end_first() -> None:
    """One that listens ends as it likes to."""
    code = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print(); sys.stdin.read()"
    )
    host = Host("a")
    program = host.spawn(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"\n"
    host.close()
    assert program.returncode == 7


def test_closing_from_inside_spares_the_caller() -> None:
    """Who closes it is in it, too, and goes home afterwards."""
    host, at_home = Host("a"), interfaces()
    with host.inside():
        host.close()
    assert interfaces() == at_home


def test_a_function_that_does_not_end_is_said() -> None:
    """After all else is gone: the descriptors, and with them the interfaces."""
    before = leaks.descriptors()
    end = threading.Event()
    host = Host("a", stop_s=0.01)
    host.plug("10.9.0.1/24")
    future = host.run(end.wait, PATIENCE)
    with pytest.raises(TimeoutError, match="still runs in host a"):
        host.close()
    assert leaks.descriptors() == before
    end.set()
    assert future.result(PATIENCE)


def test_a_closed_host_is_no_host() -> None:
    """Nothing runs in it any more, and no descriptor is left; closing twice is no error."""
    before = leaks.descriptors()
    with Host("a") as host:
        host.plug("10.9.0.1/24")
    host.close()
    assert leaks.descriptors() == before
    for use in (lambda: host.run(int), lambda: host.spawn(["true"]), host.dropped):
        with pytest.raises(UsageError, match="host a was closed"):
            use()


def test_an_interface_says_nothing_unasked() -> None:
    """It has no IPv6, so no packet leaves before somebody sends one."""
    with Host("a") as host:
        tun = host.plug("10.9.0.1/24")
        shown = host.run(Path("/proc/thread-self/net/if_inet6").read_text).result(PATIENCE)
        assert tun.name not in shown
        assert tun.read() is None


def test_only_the_first_interface_has_the_default_route() -> None:
    """A stranger's address is looked for behind it."""
    with Host("a") as host:
        first, second = host.plug("10.9.0.1/24"), host.plug("10.10.0.1/24")
        with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
            user.sendto(b"x", ("192.0.2.1", 9))
            user.sendto(b"x", ("10.10.0.7", 9))
        for tun, target in ((first, "192.0.2.1"), (second, "10.10.0.7")):
            packet = tun.read()
            assert packet is not None
            assert socket.inet_ntoa(packet[16:20]) == target


def test_a_further_address_is_the_hosts() -> None:
    """It can be bound to; twice it is refused, and without an interface it makes no sense."""
    with Host("a") as host:
        with pytest.raises(UsageError, match="host a has no interface"):
            host.add_address("10.9.0.2/24")
        host.plug("10.9.0.1/24")
        host.add_address("10.9.0.2/24")
        host.run(socket.create_server, ("10.9.0.2", 80)).result(PATIENCE).close()
        with pytest.raises(KernelError, match="it is there already") as refused:
            host.add_address("10.9.0.2/24")
        assert refused.value.name == "EEXIST"


def test_what_overflows_an_interface_is_counted() -> None:
    """What is more than its queue; what is in the queue is not."""
    with Host("a") as host:
        host.plug("10.9.0.1/24")
        with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
            for _ in range(QUEUE):
                user.sendto(b"x", ("10.9.0.7", 9))
            assert host.dropped() == 0
            for _ in range(5):
                user.sendto(b"x", ("10.9.0.7", 9))
            assert host.dropped() == 5
