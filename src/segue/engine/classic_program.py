"""The classic BPF program of an engine without privileges: pins first, then shares by hash."""

from __future__ import annotations

from collections.abc import Mapping

from segue.linux.cbpf import (
    Alu,
    Ancillary,
    Branch,
    Instruction,
    Item,
    Label,
    Test,
    Width,
    alu_imm,
    alu_x,
    answer,
    assemble,
    jump,
    jump_if,
    jump_if_x,
    load,
    load_ancillary,
    load_network,
    load_network_at_x,
    load_scratch,
    store_scratch,
    x_from_a,
    x_from_ip_header_length,
)
from segue.shares import SIZE

# No group is so large: the kernel's own hash decides.
NOBODY = 0xFFFFFFFF

_SOURCE_IPV4 = 12
_SOURCE_IPV6 = (8, 12, 16, 20)
_TARGET_IPV4 = 16
_TARGET_IPV6_TAIL = 36
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10  # in the TCP header, where a socket filter begins
_PORT_IPV6 = 40  # a SYN with extension headers misses its pin, no more
_PORT, _MIXED = 0, 1  # scratch words
_SIZE_BITS = SIZE.bit_length() - 1

# Odd constants of well-known multiplicative hashes (2^32 / golden ratio; MurmurHash3).
_SPREAD, _STIR = 0x9E3779B1, 0x85EBCA6B


def steer(
    shares: Mapping[int, int], pins: Mapping[int, int], own: tuple[int, int] | None = None
) -> list[Instruction]:
    """A program for indexes: ``shares`` says how many of SIZE hashes each gets (together all, or
    none at all), ``pins`` where a source port goes, whatever its hash.  ``own`` is a source port
    and where it goes if it is of this host: for others an index that is beyond the end.

    With no shares the kernel's hash decides.  Raises UsageError when the program is too long.
    """
    items: list[Item] = []
    if pins:
        items += _load_port("pin")
        for port, index in sorted(pins.items()):
            after = f"not {port}"
            items += [jump_if(Test.EQ, port, otherwise=after), answer(index), Label(after)]
    if own is not None:
        port, index = own
        items += [
            *_load_port("own"),
            jump_if(Test.EQ, port, otherwise="not own"),
            *_if_from_here("own", "not own"),
            answer(index),
            Label("not own"),
        ]
    if not shares:
        return assemble([*items, answer(NOBODY)])
    items += _load_hash()
    *others, last = sorted(shares.items())
    bound = 0
    for index, entries in others:
        bound += entries
        after = f"from {bound}"
        items += [jump_if(Test.GE, bound, then=after), answer(index), Label(after)]
    return assemble([*items, answer(last[0])])


def drop_knock(port: int) -> list[Instruction]:
    """A socket filter that drops what this host sends itself from this source port.

    Only a packet with one address at both ends is taken for our own.  Children inherit the filter
    of their listener, so one that dropped everybody's packets from the port would be for life.
    """
    return assemble(
        [
            *_load_port("knock"),
            jump_if(Test.EQ, port, otherwise="keep"),
            *_if_from_here("knock", "keep"),
            answer(0),
            Label("keep"),
            answer(NOBODY),
        ]
    )


def _if_from_here(name: str, otherwise: str) -> list[Item]:
    """Go on when both addresses are the same, else to the label; labels carry the name."""
    return [
        *_if_ipv6(f"{name} both ipv6"),
        load_network(_TARGET_IPV4),
        x_from_a(),
        load_network(_SOURCE_IPV4),
        jump(f"{name} compare"),
        Label(f"{name} both ipv6"),
        load_network(_TARGET_IPV6_TAIL),
        x_from_a(),
        load_network(_SOURCE_IPV6[-1]),
        Label(f"{name} compare"),
        jump_if_x(Test.EQ, otherwise=otherwise),
    ]


def keep_only(port: int) -> list[Instruction]:
    """A socket filter that drops everything but what this host sends itself from this port."""
    return assemble(
        [
            *_load_port("own"),
            jump_if(Test.EQ, port, otherwise="drop"),
            *_if_from_here("own", "drop"),
            answer(NOBODY),
            Label("drop"),
            answer(0),
        ]
    )


def drop_syn() -> list[Instruction]:
    """A socket filter for a listener that drops what would begin a connection, and nothing else.

    Children inherit it, where it does no harm: nobody sends a SYN on a connection.
    """
    return assemble(
        [
            load(_FLAGS, Width.U8),
            alu_imm(Alu.AND, _SYN | _ACK),
            jump_if(Test.EQ, _SYN, otherwise="keep"),
            answer(0),
            Label("keep"),
            answer(NOBODY),
        ]
    )


def drop_all() -> list[Instruction]:
    """A socket filter that drops everything."""
    return assemble([answer(0)])


def _if_ipv6(target: str) -> list[Instruction | Branch]:
    # Asked of the packet: a listener at [::] that somebody else opened may take both.
    return [load_network(0, Width.U8), alu_imm(Alu.RSH, 4), jump_if(Test.EQ, 6, then=target)]


def _load_port(name: str) -> list[Item]:
    """A = the source port; labels carry the name."""
    return [
        *_if_ipv6(f"{name} ipv6"),
        x_from_ip_header_length(),
        load_network_at_x(0, Width.U16),
        jump(f"{name} port"),
        Label(f"{name} ipv6"),
        load_network(_PORT_IPV6, Width.U16),
        Label(f"{name} port"),
    ]


def _load_hash() -> list[Item]:
    """A = a number below SIZE, the same for the same flow.

    The kernel's flow hash where there is one.  There is none for packets from a TUN device or
    from a network card that computes none, unless RPS is on: then address and port are mixed.
    """
    return [
        load_ancillary(Ancillary.RXHASH),
        jump_if(Test.EQ, 0, otherwise="hash"),
        *_load_port("mix"),
        store_scratch(_PORT),
        *_if_ipv6("source ipv6"),
        load_network(_SOURCE_IPV4),
        jump("source"),
        Label("source ipv6"),
        load_network(_SOURCE_IPV6[0]),
        *_fold(load_network(_SOURCE_IPV6[1])),
        *_fold(load_network(_SOURCE_IPV6[2])),
        *_fold(load_network(_SOURCE_IPV6[3])),
        Label("source"),
        *_fold(load_scratch(_PORT)),
        store_scratch(_MIXED),
        alu_imm(Alu.RSH, 16),
        x_from_a(),
        load_scratch(_MIXED),
        alu_x(Alu.XOR),
        alu_imm(Alu.MUL, _STIR),
        alu_imm(Alu.RSH, 32 - _SIZE_BITS),
        Label("hash"),
        alu_imm(Alu.AND, SIZE - 1),
    ]


def _fold(following: Instruction) -> list[Item]:
    """``A = A * SPREAD + following``."""
    return [alu_imm(Alu.MUL, _SPREAD), x_from_a(), following, alu_x(Alu.ADD)]
