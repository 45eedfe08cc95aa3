"""What a client does between two steps of a carry: it asks, ends, resets, or sends no data."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from tests.engine.carrying import (
    PORT,
    STEPS,
    after,
    ask,
    carry,
    dial,
    servers,
    settled,
    wait_unread,
)
from tests.waiting import PATIENCE, wait_until

from segue.bpf import asm
from segue.bpf.insn import R0, R1, R2, Jump, Size
from segue.engine.carry import Carrier
from segue.engine.carry_wish import Wish
from segue.linux import ptrace, sysctl, tcp_queue, tcp_repair, tcx
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType
from segue.linux.bpf_maps import Map
from segue.linux.raw_ip import RawIp
from segue.linux.sock_diag import SockDiag
from segue.observe.carrying import Refusal
from segue.wire import ipv4, tcp

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

HOST = "127.0.0.1"
_NO_OPERATIONS = b"\1" * 4
_NEXT, _DROP = -1, 2  # TCX_NEXT, TCX_DROP
_SKB_SK = 168  # in struct __sk_buff
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_ends_is_answered_with_the_end(step: str) -> None:
    """Its FIN comes to the old server or to the new one, which closes; never a reset."""
    with servers(HOST) as scene, Carrier() as carrier, dial(HOST) as client:
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            with after(step, lambda: client.shutdown(socket.SHUT_WR)):
                report = carry(carrier, old, target, owner)
        assert report.carried or report.refused is not None
        assert client.recv(9) == b""


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_resets_leaves_nothing_behind(step: str) -> None:
    """No server keeps a connection whose client is gone, and both go on serving."""
    with servers(HOST) as scene, Carrier() as carrier:
        client = dial(HOST)
        port = client.getsockname()[1]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            with after(step, client.close):
                carry(carrier, old, target, owner)
        wait_without(port)
        for server, share in zip(scene.servers, (0, 1), strict=True):
            scene.steering.share({share: 1.0})
            with dial(HOST) as another:
                assert ask(another, b"two") == b"AB"[share : share + 1] + b"two"
            assert server.process.poll() is None


@pytest.mark.parametrize("unread", [b"", b"GET /two ?"])
def test_what_ends_before_the_look_is_not_made_again(unread: bytes) -> None:
    """The new server has answered and closed when we look: its client has had all it wants."""
    with servers(HOST) as scene, Carrier() as carrier, ExitStack() as stack:
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        client = stack.enter_context(dial(HOST))
        port = client.getsockname()[1]
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            scene.steering.share({1: 1.0})

            def end() -> None:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(99).endswith(unread)
                wait_without(port)

            with after("inject", end), ptrace.stopped([scene.servers[0].process.pid]):
                if unread:
                    client.sendall(unread)
                    wait_unread(old, len(unread))
                # Stopped already, by us; a second tracer would be refused.
                report = carrier.carry(old, [scene.servers[1].listener])
        assert (report.carried, report.unread) == (True, len(unread))
        with SockDiag() as diag:
            left = diag.connections(PORT, socket.AF_INET)
        assert port not in {one.peer_port for one in left}


def test_what_is_lost_behind_the_classifier_is_not_said_to_be_carried() -> None:
    """Another classifier drops what ours gave a request to, as a firewall may."""
    code = asm.assemble(
        [
            asm.load(Size.U64, R2, R1, _SKB_SK),
            asm.mov_imm(R0, _NEXT),
            asm.jump_imm(Jump.EQ, R2, 0, "none"),
            asm.mov_imm(R0, _DROP),
            asm.Label("none"),
            asm.leave(),
        ]
    )
    with servers(HOST) as scene, ExitStack() as stack:
        theirs = stack.enter_context(Program.load(code, attach_type=AttachType.TCX_INGRESS))
        stack.enter_context(tcx.attach(theirs, socket.if_nametoindex("lo")))
        carrier = stack.enter_context(Carrier())
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        client = stack.enter_context(dial(HOST))
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            report = carrier.carry(old, [scene.servers[1].listener])
        assert not report.carried
        assert str(report).startswith("lost")


def wait_without(port: int) -> None:
    """Until nothing is connected to this port."""
    with SockDiag() as diag:

        def gone() -> bool:
            left = diag.connections(PORT, socket.AF_INET)
            return port not in {one.peer_port for one in left}

        wait_until(gone, f"nothing is connected to {port}")


@pytest.mark.parametrize("kind", ["probe", "window", "old"])
@pytest.mark.parametrize("step", STEPS)
def test_a_segment_without_data_changes_nothing(step: str, kind: str) -> None:
    """A keep-alive probe, a window update, and a segment that comes twice."""
    with servers(HOST) as scene, Carrier() as carrier, dial(HOST) as client, RawIp() as raw:
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            send = speaker(client, raw, kind)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            with after(step, send):
                report = carry(carrier, old, target, owner)
        assert report.carried, report
        assert ask(client, b"two") == b"Btwo"


@pytest.mark.parametrize("how", ["with options", "seen before"])
@pytest.mark.parametrize("step", ["repair", "disconnect", "inject"])
def test_a_request_that_the_classifier_cannot_hold_is_no_reset(step: str, how: str) -> None:
    """One with options of IP, and one that had passed the classifier a moment before.

    No process has the connection when it comes to the listener, whose filter drops it.
    """
    with servers(HOST) as scene, Carrier() as carrier:
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        with dial(HOST) as client, scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            if how == "with options":
                client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _NO_OPERATIONS)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener

            def send() -> None:
                if how == "seen before":
                    carrier._programs._detach()
                client.sendall(b"two")
                carrier._programs.follow_interfaces()

            with after(step, send):
                report = carry(carrier, old, target, owner)
            assert report.carried or report.refused is not None
            assert client.recv(9)[1:] == b"two"


@pytest.fixture
def patient(netns: int) -> None:
    """In the test's own namespace, a client waits longer than any test before it sends again."""
    del netns  # it is entered before anything is set
    route = (
        f"ip route replace table local local {HOST} dev lo src {HOST} rto_min {2 * PATIENCE:.0f}s"
    )
    subprocess.run(route.split(), check=True)
    sysctl.write("net.ipv4.tcp_early_retrans", "0")  # nor does it probe for a lost tail


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("step", "refused"),
    [("look", False), ("repair", False), ("disconnect", False), ("look", True), ("repair", True)],
)
def test_a_request_that_was_dropped_is_given_back(
    step: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until the client sends it again."""
    with servers(HOST) as scene, Carrier() as carrier:
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        with dial(HOST) as client, scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            if refused:
                monkeypatch.setattr(tcp_queue, "received", lambda _: None)
            elif step == "disconnect":  # else it makes the connection
                client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _NO_OPERATIONS)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            with after(step, lambda: client.sendall(b"two")):
                report = carry(carrier, old, target, owner)
            assert report.carried is not refused
            assert client.recv(9) == (b"Atwo" if refused else b"Btwo")


def test_what_comes_when_the_hold_has_ended_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where whoever carries has stood still before the connection was taken."""
    with servers(HOST) as scene, Carrier() as carrier, dial(HOST) as client:
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            enter, late = tcp_repair.enter, list[bool]()

            def entered(connection: socket.socket) -> None:
                if not late:
                    late.append(True)
                    clear(carrier._programs.until)
                    clear(carrier._programs.entries)
                    client.sendall(b"two")
                enter(connection)

            monkeypatch.setattr(tcp_repair, "enter", entered)
            wish = Wish(old, unread=True)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            (report,) = carrier.batch([wish], [target], [owner])
        assert report.refused is Refusal.LATE
        assert client.recv(9) == b"Atwo"


def clear(these: Map) -> None:
    """Nothing is left in a map."""
    for key in list(these.keys()):
        these.delete(key)


def speaker(client: socket.socket, raw: RawIp, kind: str) -> Callable[[], None]:
    """What sends such a segment, as if the client did: its numbers are read in repair mode."""
    numbers = []
    client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    for queue in (2, 1):  # TCP_SEND_QUEUE, TCP_RECV_QUEUE
        client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
        numbers.append(client.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) & 0xFFFFFFFF)
    client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, -1)
    seq, ack = numbers
    payload = b""
    if kind == "probe":
        seq -= 1
    elif kind == "old":
        seq, payload = seq - 3, b"one"
    addresses = b"".join(ipaddress.ip_address(HOST).packed for _ in range(2))
    ports = client.getsockname()[1].to_bytes(2, "big") + PORT.to_bytes(2, "big")
    segment = tcp.emit(
        addresses, ports, seq % (1 << 32), ack, tcp.ACK, 40 if kind == "window" else 60,
        payload=payload,
    )  # fmt: skip
    packet = ipv4.emit(addresses, socket.IPPROTO_TCP, segment)
    return lambda: raw.send(packet, HOST)
