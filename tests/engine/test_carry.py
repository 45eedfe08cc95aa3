"""Accepted connections carried between two processes, and what their clients see of it: nothing."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from tests.engine.carrying import (
    STEPS,
    after,
    ask,
    carry,
    dial,
    other_host,
    servers,
    settled,
    wait_unread,
)
from tests.waiting import PATIENCE

from segue.address import Address
from segue.bpf import asm
from segue.bpf.insn import R0
from segue.engine.carry import Carrier
from segue.errors import KernelError
from segue.linux import cbpf, netns, ptrace, socket_filter, sysctl, tcp_repair, tcx
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType
from segue.linux.sockopt import open_listener
from segue.observe.carrying import Refusal

_ECN_SEEN = 0x10  # TCPI_OPT_ECN_SEEN: in a segment that has come since
pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]


@pytest.mark.parametrize(
    ("listening", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
        ("0.0.0.0", "10.9.0.1"),
        ("::", "10.9.0.1"),
        ("::", "fd09::1"),
    ],
)
def test_a_connection_goes_to_another_process(listening: str, host: str) -> None:
    """By IPv4, IPv6 and IPv4 at a dual-stack listener; on loopback and from another host."""
    with other_host() as there, servers(listening) as scene, Carrier() as carrier:
        peer = None if host in {"127.0.0.1", "::1"} else there
        with dial(host, peer=peer) as client, scene.servers[0].accepted() as connection:
            assert ask(client, b"one") == b"Aone"
            settled(connection)
            report, _ = scene.carry(carrier, connection)
            assert str(report) == "carried"
            with scene.servers[1].accepted() as new:
                assert new.getpeername()[:2] == connection_names(client, new)
                assert ask(client, b"two") == b"Btwo"
                new.sendall(b"unasked")
                assert client.recv(99) == b"unasked"


def connection_names(client: socket.socket, new: socket.socket) -> tuple[str, int]:
    host, port = client.getsockname()[:2]
    mapped = new.family == socket.AF_INET6 and client.family == socket.AF_INET
    return (f"::ffff:{host}" if mapped else host), port


def test_a_hundred_carries_and_the_client_sees_no_segment() -> None:
    """To and fro, a request in between; nothing is lost, and nothing is sent in a carry."""
    with ExitStack() as stack:
        there = stack.enter_context(other_host())
        scene = stack.enter_context(servers("0.0.0.0"))
        carrier = stack.enter_context(Carrier())
        client = stack.enter_context(dial("10.9.0.1", peer=there))
        with capture(there) as seen:
            connection = scene.servers[0].accepted()
            for number in range(100):
                name = b"BA"[number % 2 : number % 2 + 1]
                ask(client, b"x")
                settled(connection)
                drain(seen)
                report, _ = scene.carry(carrier, connection)
                connection.close()
                assert report.carried, report
                assert drain(seen) == 0
                connection = scene.servers[scene.turn].accepted()
                assert ask(client, b"request") == name + b"request"
            connection.close()


@pytest.mark.parametrize(
    ("setting", "value", "mtu"),
    [
        ("tcp_timestamps", "0", 1500),
        ("tcp_sack", "0", 1500),
        ("tcp_window_scaling", "0", 1500),
        ("tcp_ecn", "1", 1500),  # asked for by the client
        ("tcp_rmem", "4096 131072 1073741824", 9000),  # a window scale of 14
        ("tcp_timestamps", "1", 576),  # an MSS of 536
    ],
)
def test_what_was_agreed_on_is_kept(setting: str, value: str, mtu: int) -> None:
    """Options, window scales and segment sizes; and both ways go on with much data."""
    with other_host(mtu) as there:
        home = netns.current()
        netns.enter(there)
        sysctl.write(f"net.ipv4.{setting}", value)
        netns.enter(home)
        os.close(home)
        with servers("0.0.0.0") as scene, Carrier() as carrier:
            client = dial("10.9.0.1", peer=there)
            with client:
                with scene.servers[0].accepted() as old:
                    ask(client, b"x")
                    settled(old)
                    before = agreed(old)
                    assert scene.carry(carrier, old)[0].carried
                with scene.servers[1].accepted() as new:
                    assert agreed(new) == before
                    data = bytes(300_000)
                    assert len(talk(client, data)) > len(data)


@pytest.mark.parametrize("behind", [0, 1, 8, 2000])
def test_sequence_numbers_wrap(behind: int) -> None:
    """Both of them, at the carry or soon after it."""
    first = -behind % (1 << 32)
    with servers("127.0.0.1") as scene, Carrier() as carrier, connected_at(first) as ends:
        client, old = ends
        assert carrier.carry(old, [scene.servers[0].listener]).carried
        with scene.servers[0].accepted():
            assert talk(client, b"x" * 3000).replace(b"A", b"") == b"x" * 3000


def test_an_unread_request_goes_along() -> None:
    """The server to which it comes reads and answers it."""
    with servers("127.0.0.1") as scene, Carrier() as carrier:
        owner = scene.servers[0].process
        with dial("127.0.0.1") as client, scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            with ptrace.stopped([owner.pid]) as stopped:
                assert stopped
                client.sendall(b"GET " + b"two" * 4998 + b" ?")
                wait_unread(old, 15_000)
                # Stopped already, by us; a second tracer would be refused.
                report = carrier.carry(old, [scene.servers[1].listener])
            assert (report.carried, report.unread) == (True, 15_000)


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_speaks_between_two_steps_is_heard(step: str) -> None:
    """Its segment makes the connection itself, or comes again; never a reset."""
    with servers("127.0.0.1") as scene, Carrier() as carrier, dial("127.0.0.1") as client:
        owner = scene.servers[0]
        with owner.accepted() as old:
            ask(client, b"one")
            settled(old)
            with after(step, lambda: client.sendall(b"GET ")):
                report = carry(carrier, old, owner.listener, owner.process.pid)
        if report.carried:
            owner.accepted().close()
        else:  # before its owner was stopped, which may have answered by then
            assert step == "guard"
        assert client.recv(99) == b"AGET "


def test_a_queue_that_is_full_meanwhile() -> None:
    """The segment comes again until there is room."""
    with servers("127.0.0.1") as scene, Carrier() as carrier, ExitStack() as stack:
        small = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=0))
        scene.steering.join(2, small)
        client = stack.enter_context(dial("127.0.0.1"))
        old = stack.enter_context(scene.servers[0].accepted())
        owner = scene.servers[0].process.pid
        ask(client, b"one")
        settled(old)
        scene.steering.share({2: 1.0})

        def make_room() -> None:
            threading.Timer(0.2, lambda: stack.enter_context(small.accept()[0])).start()

        def fill() -> None:
            stack.enter_context(dial("127.0.0.1"))

        with after("guard", fill), after("let go", make_room):
            assert carry(carrier, old, small, owner).carried
        small.settimeout(PATIENCE)
        with small.accept()[0] as new:
            client.sendall(b"two")
            assert new.recv(9) == b"two"


def test_a_listener_that_is_gone_ends_the_client() -> None:
    """Nobody takes it until the entry ends: the client is reset, and the report says that."""
    with alone() as (carrier, listener, client, old):
        with after("guard", listener.close):
            report = carrier.carry(old, [listener])
        assert not report.carried
        assert str(report) == "lost: no listener took it"
        with pytest.raises(ConnectionResetError):
            client.recv(9)


def test_a_guard_that_is_gone_is_no_loss() -> None:
    """The step is refused before anything is done, and the two ends go on talking."""
    with alone() as (carrier, listener, client, old):
        carrier._guard.close()
        with pytest.raises(KernelError):
            carrier.carry(old, [listener])
        assert not socket_filter.present(old)
        client.sendall(b"x")
        assert old.recv(9) == b"x"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("syncookies", Refusal.SYNCOOKIES_OFF),
        ("timestamps", Refusal.TIMESTAMPS_OFF),
        ("no target", Refusal.NO_TARGET),
        ("full", Refusal.TARGET_FULL),
        ("filter", Refusal.FILTERED),
        ("device", Refusal.BOUND),
        ("owed", Refusal.OWED),
        ("no request", Refusal.NO_REQUEST_LINE),
        ("urgent", Refusal.URGENT),
        ("closed", Refusal.NOT_ESTABLISHED),
        ("unacknowledged", Refusal.UNACKNOWLEDGED),
        ("small segments", Refusal.SMALL_MSS),
        ("own process", Refusal.OWNER_RUNS),
        ("multipath", Refusal.NOT_TCP),
    ],
)
def test_what_is_refused_is_as_it_was(make: str, why: Refusal) -> None:
    """Its owner and its client go on talking, and nothing of the carry is left at the socket."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        listener = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=0))
        options = [(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 300)] if make == "small segments" else []
        client = stack.enter_context(dial("127.0.0.1", *options))
        old = stack.enter_context(listener.accept()[0])
        targets, owners = [listener], list[int]()
        if make == "syncookies":
            sysctl.write("net.ipv4.tcp_syncookies", "0")
        elif make == "timestamps":
            sysctl.write("net.ipv4.tcp_timestamps", "0")
        elif make == "no target":
            targets = []
        elif make == "full":
            stack.enter_context(dial("127.0.0.1"))
        elif make == "filter":
            cbpf.attach_filter(old, [cbpf.answer(0xFFFF)])
        elif make == "device":
            old.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        elif make == "owed":
            client.sendall(b"request")
            old.recv(9)
        elif make == "no request":
            client.sendall(b"request")
        elif make == "urgent":
            client.send(b"!", socket.MSG_OOB)
        elif make == "closed":
            client.shutdown(socket.SHUT_WR)
        elif make == "unacknowledged":
            # Its own acknowledgements are dropped from here on.
            cbpf.attach_filter(client, [cbpf.answer(0)])
            old.sendall(b"answer")
        elif make == "multipath":
            targets = [stack.enter_context(multipath())]
        elif make == "own process":
            owners = [os.getpid()]
        assert carrier.carry(old, targets, owners).refused is why
        assert socket_filter.present(old) == (make == "filter")
        if make == "unacknowledged":
            socket_filter.detach(client)
        if make != "closed":
            client.sendall(b"more")
            assert old.recv(99)
        old.sendall(b"answer")
        assert client.recv(6) == b"answer"


def test_a_classifier_that_was_there_first_is_no_loss() -> None:
    """One of somebody else's, which passes everything: ours is before it."""
    code = asm.assemble([asm.mov_imm(R0, 0), asm.leave()])
    with Program.load(code, attach_type=AttachType.TCX_INGRESS) as theirs, ExitStack() as stack:
        for index in tcx.interfaces():
            stack.enter_context(tcx.attach(theirs, index))
        carrier, listener, client, old = stack.enter_context(alone())
        assert carrier.carry(old, [listener]).carried
        with listener.accept()[0] as new:
            client.sendall(b"x")
            assert new.recv(9) == b"x"


@pytest.mark.kernel("7.3")
def test_accurate_ecn_is_left_alone() -> None:
    """Where both ends ask for it; no attribute of a connection that is made says it."""
    sysctl.write("net.ipv4.tcp_ecn", "3")
    with alone() as (carrier, listener, client, old):
        assert carrier.carry(old, [listener]).refused is Refusal.ACCURATE_ECN
        client.sendall(b"x")
        assert old.recv(9) == b"x"


def give(name: str, address: str, namespace: int | None) -> None:
    """An address to an interface, usable at once."""
    home = netns.current()
    try:
        if namespace is not None:
            netns.enter(namespace)
        command = ["ip", "-6", "addr", "add", address, "dev", name, "nodad"]
        subprocess.run(command, check=True)
    finally:
        netns.enter(home)
        os.close(home)


def multipath() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP
    made.bind(("127.0.0.1", 0))
    made.listen(9)
    return made


def test_a_link_local_connection_is_left_alone() -> None:
    """It is bound to its interface, to which the segment that makes it again does not come."""
    with ExitStack() as stack:
        there = stack.enter_context(other_host())
        scene = stack.enter_context(servers("::"))
        carrier = stack.enter_context(Carrier())
        for name, number, namespace in (("s0", 1, None), ("c0", 2, there)):
            give(name, f"fe80::{number}/64", namespace)
        client = stack.enter_context(dial("fe80::1%c0", peer=there))
        old = stack.enter_context(scene.servers[0].accepted())
        ask(client, b"one")
        settled(old)
        assert scene.carry(carrier, old)[0].refused is Refusal.BOUND
        assert ask(client, b"two") == b"Atwo"


@contextmanager
def alone() -> Iterator[tuple[Carrier, socket.socket, socket.socket, socket.socket]]:
    """A carrier, a listener, a client and the connection that this process has accepted."""
    with ExitStack() as stack:
        carrier = stack.enter_context(Carrier())
        listener = stack.enter_context(open_listener(Address("127.0.0.1", 8080), backlog=9))
        client = stack.enter_context(dial("127.0.0.1"))
        yield carrier, listener, client, stack.enter_context(listener.accept()[0])


@contextmanager
def capture(namespace: int) -> Iterator[socket.socket]:
    """What comes to the other host from here on."""
    home = netns.current()
    netns.enter(namespace)
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        made.bind(("c0", 0x0800))
    finally:
        netns.enter(home)
        os.close(home)
    with made:
        made.setblocking(False)
        yield made


def drain(seen: socket.socket) -> int:
    """How many packets it has come to since."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            _, where = seen.recvfrom(1)
            count += where[2] == socket.PACKET_HOST
    return count


def agreed(connection: socket.socket) -> tuple[int, int, int, int]:
    """Options and scales (TCP_INFO), the maximum segment size, and the size of those sent."""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    maximum = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    return data[5] & ~_ECN_SEEN, data[6], maximum, int.from_bytes(data[16:20], "little")


def talk(client: socket.socket, data: bytes) -> bytes:
    """Send all of it and read as much and more: the server answers each piece with its name."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    answer = bytearray()
    while len(answer.translate(None, b"AB")) < len(data):
        answer += client.recv(1 << 20)
    sender.join()
    return bytes(answer)


@contextmanager
def connected_at(first: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and a server whose next bytes have this number, made in repair mode."""
    ends = [("127.0.0.1", 50_000), ("127.0.0.1", 8080)]
    made = []
    for here, there in (ends, ends[::-1]):
        one = socket.socket()
        one.settimeout(PATIENCE)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        tcp_repair.enter(one)
        for queue in (1, 2):  # TCP_RECV_QUEUE, TCP_SEND_QUEUE
            one.setsockopt(socket.IPPROTO_TCP, 20, queue)
            one.setsockopt(socket.IPPROTO_TCP, 21, struct.unpack("i", struct.pack("I", first))[0])
        one.bind(here)
        one.connect(there)
        made.append(one)
    for one in made:
        one.setsockopt(socket.IPPROTO_TCP, 19, 0)  # with a probe, which tells the window
    with made[0], made[1]:
        made[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made[0], made[1]
