"""A carry where another program receives the same packets by a packet socket."""

from __future__ import annotations

import socket

import pytest
from tests.engine.carrying import ask, carry, dial, servers, settled

from segue.engine.carry import Carrier
from segue.engine.carry_wish import Wish
from segue.linux import packet_sockets
from segue.linux.packet_sockets import PacketSocket
from segue.linux.raw_ip import RawIp
from segue.observe.carrying import Refusal

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9"), pytest.mark.usefixtures("netns")]

HOST = "127.0.0.1"
_ALL, _IPV4 = 3, 0x0800


@pytest.mark.parametrize("interface", ["", "lo"])
@pytest.mark.parametrize("protocol", [_ALL, _IPV4])
def test_a_capture_changes_nothing(protocol: int, interface: str) -> None:
    """Of all protocols it is carried; of IP alone it is left where it is.  Both clients go on."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    with tap, servers(HOST) as scene, Carrier() as carrier, dial(HOST) as client:
        if interface:
            tap.bind((interface, protocol))
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            scene.steering.share({1: 1.0})
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            report = carry(carrier, old, target, owner)
        if protocol == _ALL:
            assert report.carried, report
            assert ask(client, b"two") == b"Btwo"
        else:
            assert report.refused is Refusal.TAPPED
            assert ask(client, b"two") == b"Atwo"


def test_what_is_kept_again_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has the connection, and its segments meet the listener each time: no endless turn."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_IPV4))
    with tap, servers(HOST) as scene, Carrier() as carrier, dial(HOST) as client:
        tap.bind(("lo", _IPV4))
        for server in scene.servers:
            assert carrier.watch(server.listener) is None
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            owner, target = scene.servers[0].process.pid, scene.servers[1].listener
            # As if the socket had come a moment later.
            monkeypatch.setattr(packet_sockets, "read", lambda: [PacketSocket(_ALL, 0)])
            sent = [0]
            send = RawIp.send

            def counted(raw: RawIp, packet: bytes, target: str) -> None:
                sent[0] += 1
                send(raw, packet, target)

            monkeypatch.setattr(RawIp, "send", counted)
            wish = Wish(old, unread=True)
            (report,) = carrier.batch([wish], [target], [owner])
        assert report.pending
        assert sent[0] <= 2
