"""What a carried connection knows of the way to its client: when a lost answer is sent again."""

from __future__ import annotations

import pytest
from tests.engine.carrying import ask, dial, servers, settled

from segue.engine.carry import Carrier
from segue.lab.link import Conditions
from segue.lab.scenario import SERVER, distance
from segue.linux import snmp, sysctl, tcp_info

pytestmark = [pytest.mark.root, pytest.mark.kernel("6.9")]

FALLBACK_US = 3_000_000  # TCP_TIMEOUT_FALLBACK
ONE_WAY = 0.02


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
