"""Socket diagnostics as bytes: what this kernel answered, field by field, and what is asked."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import WireError
from segue.linux.inet_diag import (
    Entry,
    State,
    TcpInfo,
    decode_connected,
    decode_entry,
    decode_info,
    encode_port_filter,
    encode_request,
)

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> memoryview:
    return memoryview(bytes.fromhex((GOLDEN / name).read_text()))


def test_a_listener_with_one_child_in_its_queue() -> None:
    """Captured on Linux 6.18: listen(7) at 127.0.0.1:8000, one connection not accepted."""
    assert decode_entry(golden("inet_diag_listener.hex")) == Entry(
        family=socket.AF_INET,
        state=State.LISTEN,
        cookie=0x2112,
        inode=0x7F2E49,
        uid=0,
        host="127.0.0.1",
        port=8000,
        peer_host="0.0.0.0",
        peer_port=0,
        interface=0,
        rqueue=1,
        wqueue=7,
        retrans=0,
        expires_ms=0,
        drops=0,
    )


def test_an_ipv6_listener() -> None:
    """Sixteen bytes of address, and the attribute for IPV6_V6ONLY."""
    entry = decode_entry(golden("inet_diag_ipv6_listener.hex"))
    assert (entry.family, entry.host, entry.port) == (socket.AF_INET6, "::1", 8001)
    assert (entry.peer_host, entry.cookie, entry.wqueue) == ("::", 0x2113, 3)
    assert entry.v6only is True


def test_a_child_nobody_has_accepted() -> None:
    """Inode 0, five bytes to read, and the part of tcp_info that is read."""
    entry = decode_entry(golden("inet_diag_queued_child.hex"))
    assert (entry.state, entry.inode, entry.rqueue, entry.wqueue) == (State.ESTABLISHED, 0, 5, 0)
    assert (entry.peer_host, entry.peer_port) == ("127.0.0.1", 60326)
    assert entry.info == TcpInfo(
        unacked=0,
        sacked=0,
        last_data_sent_ms=0,
        last_data_recv_ms=0,
        rtt_us=23,
        bytes_acked=0,
        bytes_received=5,
        segs_out=1,
        segs_in=3,
        data_segs_in=1,
        data_segs_out=0,
    )


def test_connections_in_one_go_are_read_as_each_alone() -> None:
    """Field for field what decode_entry says, also for a message whose attributes come in another
    order.
    """
    child = bytes(golden("inet_diag_queued_child.hex"))
    head, rest = child[:72], child[72:]
    first = 4 + 1 + 3  # the attribute SHUTDOWN with its padding
    moved = head + rest[first:] + rest[:first]
    assert len(moved) == len(child)
    entry = decode_entry(memoryview(child))
    assert entry.info
    seen = decode_connected([memoryview(one) for one in (child, moved, child)])
    assert [one == seen[0] for one in seen] == [True, True, True]
    assert (seen[0].state, seen[0].cookie, seen[0].inode) == (entry.state, entry.cookie, 0)
    assert (seen[0].host, seen[0].port) == (entry.host, entry.port)
    assert (seen[0].peer_host, seen[0].peer_port) == (entry.peer_host, entry.peer_port)
    assert (seen[0].rqueue, seen[0].wqueue, seen[0].interface) == (5, 0, 0)
    assert seen[0][-4:] == (
        entry.info.last_data_sent_ms,
        entry.info.last_data_recv_ms,
        entry.info.bytes_received,
        entry.info.data_segs_out,
    )


def test_connections_without_enough_of_tcp_info() -> None:
    """An old kernel's tcp_info ends before what is read: whether it was answered is unknown."""
    child = bytes(golden("inet_diag_queued_child.hex"))
    (seen,) = decode_connected([memoryview(child[:72])])
    assert seen.data_segs_out is None
    short = struct.pack("=HH", 4 + 100, 2) + b"\1" * 100  # INFO
    (seen,) = decode_connected([memoryview(child[:72] + short)])
    assert seen.data_segs_out is None
    with pytest.raises(WireError, match="71 bytes"):
        decode_connected([memoryview(child[:71])])


def test_a_request_is_no_connection() -> None:
    """SYN_RECV that tells nothing of shutdown is left out; a Fast Open child tells."""
    child = bytes(golden("inet_diag_queued_child.hex"))
    request = child[:1] + bytes([State.SYN_RECV]) + child[2:72]
    fast_open = child[:1] + bytes([State.SYN_RECV]) + child[2:]
    (seen,) = decode_connected([memoryview(request), memoryview(fast_open)])
    assert seen.bytes_received == 5


def test_tcp_info_by_offset() -> None:
    """Each field at its offset in struct tcp_info (include/uapi/linux/tcp.h)."""
    raw = bytearray(160)
    struct.pack_into("=II", raw, 24, 1, 2)  # unacked, sacked
    struct.pack_into("=IIII", raw, 44, 11, 12, 13, 14)  # sent, ack sent, data and ack received
    struct.pack_into("=I", raw, 68, 15)  # rtt
    struct.pack_into("=QQ", raw, 120, 1 << 40, 2 << 40)  # acked, received
    struct.pack_into("=IIII", raw, 136, 16, 17, 90, 91)  # segs out and in, not sent, min_rtt
    struct.pack_into("=II", raw, 152, 18, 19)  # data segs in and out
    assert decode_info(memoryview(bytes(raw))) == TcpInfo(
        1, 2, 11, 13, 15, 1 << 40, 2 << 40, 16, 17, 18, 19
    )
    assert decode_info(memoryview(bytes(159))) is None


def test_drops_are_the_ninth_number_of_skmeminfo() -> None:
    """SK_MEMINFO_DROPS is 8; a kernel that sends fewer says nothing of drops."""
    head = bytes(golden("inet_diag_listener.hex"))[:72]
    nine = struct.pack("=HH9I", 40, 7, *range(100, 109))
    assert decode_entry(memoryview(head + nine)).drops == 108
    eight = struct.pack("=HH8I", 36, 7, *range(100, 108))
    assert decode_entry(memoryview(head + eight)).drops is None


def test_a_request_byte_by_byte() -> None:
    """What was sent for listeners with SKMEMINFO: struct inet_diag_req_v2, any cookie."""
    head = "02 06 40 00 00040000"
    assert encode_request(socket.AF_INET, 1 << State.LISTEN, 0x40) == bytes.fromhex(
        f"{head} 0000 0000 {'00' * 32} 00000000 ffffffff ffffffff"
    )


def test_a_request_for_one_socket() -> None:
    """Ports and addresses in network order, the interface in the host's."""
    told = encode_request(
        socket.AF_INET, 2, local=("10.0.0.1", 80), peer=("10.0.0.2", 0x1234), interface=7
    )
    rest = "00" * 12
    assert told.hex() == (
        f"02060000 02000000 0050 1234 0a000001{rest} 0a000002{rest} 07000000 ffffffff ffffffff"
    ).replace(" ", "")


def test_a_port_filter_byte_by_byte() -> None:
    """Two comparisons of two operations; each false one jumps four bytes past the end."""
    assert encode_port_filter(8000, None).hex(" ", 4) == "02081400 0000401f 03080c00 0000401f"
    assert encode_port_filter(None, None) == b""


def accepts(code: bytes, sport: int, dport: int) -> bool:
    """What inet_diag_bc_run does with it: past the end is no, exactly at the end is yes."""
    left, at = len(code), 0
    while left > 0:
        op, yes, no = struct.unpack_from("=BBH", code, at)
        (_, _, port) = struct.unpack_from("=BBH", code, at + 4)
        true = {2: sport >= port, 3: sport <= port, 4: dport >= port, 5: dport <= port}[op]
        step = yes if true else no
        left -= step
        at += step
    return left == 0


PORTS = st.integers(0, 65535)


@given(st.none() | PORTS, st.none() | PORTS, PORTS, PORTS)
def test_a_filter_means_what_it_says(
    sport: int | None, dport: int | None, local: int, peer: int
) -> None:
    """Played as the kernel plays it, it keeps sockets with these ports and no others."""
    code = encode_port_filter(sport, dport)
    for one, other in ((local, peer), (sport or 0, dport or 0), (sport or 0, peer)):
        wanted = sport in {None, one} and dport in {None, other}
        assert accepts(code, one, other) is wanted


@given(
    st.sampled_from([socket.AF_INET, socket.AF_INET6]),
    st.binary(min_size=32, max_size=32),
    st.tuples(PORTS, PORTS),
    st.lists(st.integers(0, (1 << 32) - 1), min_size=8, max_size=8),
)
def test_every_field_comes_back(
    family: int, addresses: bytes, ports: tuple[int, int], numbers: list[int]
) -> None:
    """Whatever the kernel may put into struct inet_diag_msg."""
    raw = struct.pack("=BBBB", family, 7, 0, 9) + struct.pack("!HH32s", *ports, addresses)
    raw += struct.pack("=8I", *numbers)
    entry = decode_entry(memoryview(raw))
    size = 4 if family == socket.AF_INET else 16
    assert socket.inet_pton(family, entry.host) == addresses[:size]
    assert socket.inet_pton(family, entry.peer_host) == addresses[16 : 16 + size]
    assert (entry.port, entry.peer_port) == ports
    assert (entry.interface, entry.cookie) == (numbers[0], numbers[1] | numbers[2] << 32)
    told = [entry.expires_ms, entry.rqueue, entry.wqueue, entry.uid, entry.inode]
    assert told == numbers[3:]
    assert (entry.state, entry.retrans) == (7, 9)


@pytest.mark.parametrize("size", [0, 1, 71])
def test_an_entry_that_is_too_short_is_refused(size: int) -> None:
    """Never read past what came."""
    with pytest.raises(WireError, match=f"inet_diag_msg: {size} bytes"):
        decode_entry(golden("inet_diag_listener.hex")[:size])
