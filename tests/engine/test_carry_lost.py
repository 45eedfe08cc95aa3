"""What a carried connection knows of the way to its client: when a lost answer is sent again."""

from __future__ import annotations

import pytest
from tests.engine.carrying import after, ask, dial, servers, settled
from tests.waiting import wait_until

from segue.engine.carry import Carrier
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, distance
from segue.linux import snmp, sysctl, tcp_info, tcp_repair

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

FALLBACK_US = 3_000_000  # TCP_TIMEOUT_FALLBACK
ONE_WAY = 0.02
LATE_MS = 9


@pytest.mark.parametrize("stamps", [True, False], ids=["stamps", "none"])
def test_the_round_trip_goes_along(*, stamps: bool) -> None:
    """With timestamps; the next carry takes it from there.  Without, the kernel's fallback stays.

    A segment whose stamp looked old would be dropped (PAWS).
    """
    with distance(Conditions(delay_s=ONE_WAY), seed=1) as lab, lab.server.inside():
        with lab.client.inside():
            sysctl.write("net.ipv4.tcp_timestamps", str(int(stamps)))
        with servers("0.0.0.0") as scene, Carrier() as carrier:
            with lab.client.inside():
                client = dial(SERVER)
            connection = scene.servers[0].accepted()
            with client:
                assert ask(client, b"one") == b"Aone"
                for _ in range(3):
                    settled(connection)
                    before = tcp_info.read(connection)
                    report, _ = scene.carry(carrier, connection)
                    assert str(report) == "carried"
                    connection.close()
                    connection = scene.servers[scene.turn].accepted()
                    after = tcp_info.read(connection)
                    if stamps:
                        assert after["rtt"] >= before["rtt"]
                        assert after["rto"] < FALLBACK_US
                    else:
                        assert not after["rtt"]
                    assert ask(client, b"two")[1:] == b"two"
                connection.close()
        assert not [name for name, count in snmp.read().items() if "PAWS" in name and count]


@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("step", ["guard", "repair"])
def test_timestamps_never_go_back(step: str) -> None:
    """What the old connection sends until it is taken out has stamps that the new one goes beyond.

    Its delayed acknowledgement may come then.  The client would take a later segment for an old one
    (RFC 7323, 5.2), and drop the answer until it comes again, a fifth of a second later.
    """
    last = 0
    with servers("127.0.0.1") as scene, Carrier() as carrier, dial("127.0.0.1") as client:
        with scene.servers[0].accepted() as old:
            ask(client, b"one")
            settled(old)
            began = tcp_repair.clock(old)

            def wait() -> None:
                nonlocal last
                wait_until(lambda: tcp_repair.clock(old) >= began + LATE_MS, "the clock goes on")
                last = tcp_repair.clock(old)

            with after(step, wait):
                report, _ = scene.carry(carrier, old)
        assert str(report) == "carried"
        with scene.servers[scene.turn].accepted() as new:
            ours = tcp_repair.clock(new)
        assert 0 <= (ours - last) % (1 << 32) < 1 << 31
        assert ask(client, b"two") == b"Btwo"
