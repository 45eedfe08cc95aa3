"""The stack's counters: their text, and that they count what happens."""

from __future__ import annotations

import socket

import pytest
from tests.waiting import PATIENCE

from segue.errors import WireError
from segue.linux import snmp

# /proc/net/snmp of a Linux 6.18, shortened; MaxConn is the one value that may be negative.
SNMP = """\
Icmp: InMsgs InErrors
Icmp: 7 0
Tcp: RtoAlgorithm MaxConn OutRsts
Tcp: 1 -1 18446744073709551615
"""


def test_names_stand_above_their_values() -> None:
    """The group is part of the name, and counters have 64 bits."""
    assert snmp.parse(SNMP) == {
        "Icmp.InMsgs": 7,
        "Icmp.InErrors": 0,
        "Tcp.RtoAlgorithm": 1,
        "Tcp.MaxConn": -1,
        "Tcp.OutRsts": 18446744073709551615,
    }


@pytest.mark.parametrize(
    "text", ["Tcp: A B\nTcp: 1\n", "Tcp: A\nUdp: 1\n", "Tcp: A\nTcp: 1\nUdp: B\n"]
)
def test_lines_that_do_not_belong_together_are_refused(text: str) -> None:
    """A value under the wrong name would be worse than none."""
    with pytest.raises(WireError, match="network counters"):
        snmp.parse(text)


def test_a_difference_names_what_has_changed() -> None:
    """What stayed is left out; a counter that appears began at zero."""
    assert snmp.difference({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 4}) == {"b": 3, "c": 4}


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_a_refused_connection_is_counted_here() -> None:
    """One SYN to a closed port is one reset, in the namespace of this very thread."""
    before = snmp.read()
    assert before["Tcp.OutRsts"] == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9), timeout=PATIENCE)
    grown = snmp.difference(before, snmp.read())
    assert grown["Tcp.OutRsts"] == 1
    assert grown["Tcp.ActiveOpens"] == 1


@pytest.mark.kernel("5.14")
def test_this_kernel_counts_migrations() -> None:
    """Both counters are there under the names that are looked for."""
    assert {"TcpExt.TCPMigrateReqSuccess", "TcpExt.TCPMigrateReqFailure"} <= snmp.read().keys()


@pytest.mark.root
@pytest.mark.usefixtures("netns")
def test_some_counters_are_read_often() -> None:
    """The same numbers as in the whole, and zero for a name that this kernel does not have."""
    with snmp.Counters() as counters:
        before = counters.read(["ListenDrops", "NoSuchCounter"])
        assert before == {"ListenDrops": snmp.read()["TcpExt.ListenDrops"], "NoSuchCounter": 0}
        assert counters.read(before) == before
