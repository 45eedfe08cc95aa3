"""The kernel's side: the tracepoint, its lines, and the match of a reset with a connection."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from tests.linux.unprivileged import as_nobody
from tests.probe.servers import misbehaving

from segue.address import Address
from segue.cli.main import main
from segue.errors import KernelError, NotSupported
from segue.linux import tracefs
from segue.linux.netns import fresh as netns_again
from segue.linux.tracefs import Event, Tracepoint
from segue.observe.counters import Counters
from segue.probe.kernel import NOT_HERE, Kernel, Watch, endpoint, meaning
from segue.probe.target import Target

# The trace is of every namespace: a port that no other test has keeps them apart.
WHERE = ("127.0.0.1", 18431)
HERE = Target("127.0.0.1:18431", Address(*WHERE))
RESETS = ("tcp", "tcp_send_reset", "reason")


def instances() -> list[str]:
    root = tracefs._open_root()
    inside = os.open("instances", os.O_RDONLY, dir_fd=root)
    try:
        return os.listdir(inside)
    finally:
        os.close(inside)
        os.close(root)


def test_a_line_of_the_trace_is_read() -> None:
    """The time and the fields; a task's name may look like anything."""
    text = (
        " my [x]: a=b-42    [001] ..s2.  1234.500001: tcp_send_reset: skbaddr=1 src=127.0.0.1:80"
        " dest=[::1]:9 state=TCP_CLOSE reason=TCP_STATE\n"
        "CPU:1 [LOST 17 EVENTS]\n"
        "   <idle>-0       [000] ..s2.  1234.600000: tcp_receive_reset: sport=1\n"
    )
    fields = {"skbaddr": "1", "src": "127.0.0.1:80", "dest": "[::1]:9", "state": "TCP_CLOSE"}
    expected = [Event(1234.500001, {**fields, "reason": "TCP_STATE"})]
    assert tracefs.parse(text, "tcp_send_reset") == (expected, 17)


def test_an_endpoint_as_the_kernel_prints_it() -> None:
    """IPv4, IPv6, and IPv4 on an IPv6 socket; nonsense is port 0."""
    assert endpoint("127.0.0.1:80") == ("127.0.0.1", 80)
    assert endpoint("[::1]:80") == ("::1", 80)
    assert endpoint("[::ffff:127.0.0.1]:80") == ("127.0.0.1", 80)
    assert endpoint("") == ("", 0)


def test_a_reason_without_words_is_its_own_name() -> None:
    """A newer kernel has reasons that this program has not heard of."""
    assert meaning("NO_SOCKET").startswith("no listener")
    assert meaning("TCP_SOMETHING_NEW") == "tcp something new"


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_every_reset_and_its_reason(netns: int) -> None:
    """Nobody listens; accepted and never read; in the queue of a listener that closed."""
    with Tracepoint(*RESETS) as trace:
        with socket.socket() as refused:
            assert refused.connect_ex(WHERE) != 0
        listener = socket.create_server(WHERE)
        unread, queued = (socket.create_connection(WHERE) for _ in range(2))
        unread.sendall(b"x")
        listener.accept()[0].close()
        listener.close()
        found = [one for one in trace.read() if one.fields["src"] == HERE.text]
        ends = [":".join(map(str, one.getsockname())) for one in (unread, queued)]
        unread.close()
        queued.close()
    assert [one.fields["reason"] for one in found] == [
        "NO_SOCKET",
        "TCP_ABORT_ON_CLOSE",
        "TCP_STATE",
    ]
    assert [one.fields["dest"] for one in found[1:]] == ends
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert trace.lost == 0


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_nothing_is_left_behind() -> None:
    """The instance goes on close, when opening fails, and after its process was killed."""
    mine = f"segue-{os.getpid()}-"
    trace = Tracepoint(*RESETS)
    assert any(name.startswith(mine) for name in instances())
    trace.close()
    trace.close()
    with pytest.raises(NotSupported, match="this tracepoint"):
        Tracepoint("tcp", "tcp_no_such_event")
    with pytest.raises(NotSupported, match="its field nonsense"):
        Tracepoint("tcp", "tcp_send_reset", "nonsense")
    assert not any(name.startswith(mine) for name in instances())
    program = (
        "from segue.linux.tracefs import Tracepoint; trace = Tracepoint('tcp', 'tcp_send_reset');"
        "print(flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"\n"
        stale = f"segue-{killed.pid}-"
        assert any(name.startswith(stale) for name in instances())
        killed.kill()
    # Whoever opens one next removes it, also another process than this one.
    Tracepoint(*RESETS).close()
    assert not any(name.startswith(stale) for name in instances())


@pytest.mark.root
def test_who_may_not_is_told_what_is_needed() -> None:
    """An ordinary user gets an errno and what it needs, and the probe goes on without causes."""

    def work() -> list[Any]:
        found = Watch(HERE).finish([("127.0.0.1", 9)])
        return [found.counters is not None, found.untold, found.silent]

    # Codecs are loaded when they are first used, from where nobody may not look.
    Watch(HERE).close()
    counted, untold, silent = as_nobody(work)
    assert (counted, untold) == (True, 1)
    assert "EPERM" in silent or "EACCES" in silent
    assert "CAP_SYS_ADMIN" in silent


def test_another_machine_s_kernel_is_not_asked() -> None:
    """The counters of this one would be others'."""
    found = Watch(Target("192.0.2.1:80", Address("192.0.2.1", 80))).finish([("10.0.0.1", 5)])
    assert (found.counters, found.silent) == (None, NOT_HERE)


def test_no_cause_is_missed_where_nothing_was_reset() -> None:
    """Why the kernel could not be asked matters only to who has a reset to explain."""
    assert Kernel(Counters(), silent="why").unexplained == ""
    for found in (Kernel(), Kernel(Counters(out_rsts=1)), Kernel(Counters(), untold=1)):
        assert replace(found, silent="why").unexplained == "why"


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_resets_of_others_are_not_ours(netns: int) -> None:
    """Only what went to our own address and port counts; the rest of ours is said to be untold."""
    watch = Watch(HERE)
    with socket.socket() as other:
        assert other.connect_ex(WHERE) != 0
        found = watch.finish([("127.0.0.1", 1)])
    assert (found.causes, found.untold) == ({}, 1)
    assert found.others == {"NO_SOCKET": 1}
    assert found.counters is not None
    assert found.counters.out_rsts == 1


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_the_cause_of_every_reset_is_in_the_report(
    netns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the connection: as many causes as resets, and as many as the kernel counted."""
    command = ["probe", f"http://{HERE.text}/", "--rate", "500", "--count", "200", "--no-check"]
    assert main([*command, "--json"]) == 0
    refused = json.loads(capsys.readouterr().out)
    assert refused["kernel"]["causes"] == {"NO_SOCKET": 200}
    with misbehaving("answer", "reset", port=WHERE[1]) as did:
        assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert did["reset"] == report["counts"]["reset_after"] == 100
    assert sum(report["kernel"]["causes"].values()) == 100
    assert report["kernel"]["untold"] == 0
    assert report["kernel"]["counters"]["out_rsts"] >= 100


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_a_reset_on_purpose(netns: int) -> None:
    """A linger time of 0 is for the kernel the same as a closed accept queue, and so told."""
    with (
        Tracepoint(*RESETS) as trace,
        socket.create_server(WHERE) as listener,
        socket.create_connection(WHERE),
    ):
        server = listener.accept()[0]
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        (found,) = [one for one in trace.read() if one.fields["src"] == HERE.text]
    assert "linger" in meaning(found.fields["reason"])


def test_a_kernel_error_names_what_was_done() -> None:
    """A descriptor that is not tracefs: the instance cannot be made there."""
    root = os.open("/proc/self", os.O_RDONLY)
    trace = Tracepoint.__new__(Tracepoint)
    trace._root, trace._instance = root, "instances/x"
    try:
        with pytest.raises(KernelError, match="making a tracing instance"):
            trace._make()
    finally:
        os.close(root)


@pytest.mark.root
@pytest.mark.kernel("6.11")
def test_resets_of_another_namespace_are_nobody_s(netns: int) -> None:
    """The same address and port elsewhere: traced, and left out as this namespace sent none."""
    watch = Watch(HERE)
    with netns_again(), socket.socket() as elsewhere:
        assert elsewhere.connect_ex(WHERE) != 0
    found = watch.finish([])
    assert (found.causes, found.others, found.untold) == ({}, {}, 0)
