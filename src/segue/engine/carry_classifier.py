# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""The classifier that puts a carried connection into an accept queue.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), and says so to the kernel, which lets only such programs call
``bpf_sk_assign_tcp_reqsk``.

A packet whose addresses and ports are in the map makes the connection of which it is a part, once
no socket has those any more, and if its sequence numbers are the right ones: the kernel takes its
listener, makes a child with the attributes in the map, and queues it where its reuseport selection
says.  What is not the right one, or comes while there is no room, is dropped, and comes again.  A
reset takes the entry out.  An entry that is older than it says is none.  Other packets pass.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from segue.bpf import asm
from segue.bpf.insn import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Alu,
    Helper,
    Instruction,
    Jump,
    Size,
)
from segue.engine.carry_look import NOTE_BYTES

LICENSE = "Dual MIT/GPL"
FUNCTION = "bpf_sk_assign_tcp_reqsk"
NEEDS = "Linux 6.9 or later"

KEY_BYTES = 36
# The value: struct bpf_tcp_req_attrs, then what follows, and a note of the request that goes along.
_ATTRIBUTES = 20
_OWN_CLOCK = 4
_SEQ = 20  # of the first byte that the child gets, in network order
_ACK = 24  # in network order
SAYS = 28  # what the kernel's function said last: a negative error number, or how far it came
UNTIL = 32  # nanoseconds of CLOCK_MONOTONIC
_NOTE = 40  # as the filter of connections would have it (``engine/carry_notes.py``); 0 for none
VALUE_BYTES = _NOTE + NOTE_BYTES
NO_NOTE = bytes(NOTE_BYTES)
_TOOK = 1  # the kernel makes the connection from this packet
REACHED = 2  # the packet has come to its listener, whose filter saw it

# struct __sk_buff
_PROTOCOL = 16
_IPV4 = socket.htons(0x0800)
_IPV6 = socket.htons(0x86DD)
_STATE = 72  # of struct bpf_sock
_LISTEN = 10
_NAMESPACE_OF_THE_PACKET = -1  # BPF_F_CURRENT_NETNS
_SYN, _RST, _ACK_FLAG = 0x02, 0x04, 0x10
# On the stack.
_KEY = -40  # addresses and ports as in the packet, which is what struct bpf_sock_tuple has
_BYTES = -56
_TICK_NS = 1_000_000  # of a timestamp
_NEXT, _DROP = -1, 2  # TCX_NEXT, TCX_DROP


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection that is to be made; ``seq``, ``ack`` and the clocks are modulo 2**32.

    Its clock goes on from where the old one's is at that moment, and not from where it was when the
    entry was written: until it is taken out, the old connection may still send an acknowledgement,
    and its client takes nothing that looks older (RFC 7323, 5.2).
    """

    seq: int
    ack: int
    peer_clock: int  # the last timestamp of the client
    own_clock: int  # what the timestamps of the connection are ahead of ``clock``
    mss: int
    receive_scale: int
    send_scale: int
    scaling: bool
    sack: bool
    timestamps: bool
    ecn: bool
    until: int
    note: bytes = NO_NOTE

    def encode(self) -> bytes:
        """The map's value."""
        return b"".join(
            (
                self.peer_clock.to_bytes(4, "little"),
                self.own_clock.to_bytes(4, "little"),
                self.mss.to_bytes(2, "little"),
                bytes((self.receive_scale, self.send_scale, self.ecn)),
                bytes((self.scaling, self.sack, self.timestamps, 0, 0, 0, 0)),
                self.seq.to_bytes(4, "big"),
                self.ack.to_bytes(4, "big"),
                bytes(4),
                self.until.to_bytes(8, "little"),
                self.note,
            )
        )


def key(addresses: bytes, ports: bytes) -> bytes:
    """The map's key: the client's address and the server's, its port and the server's."""
    return (addresses + ports).ljust(KEY_BYTES, b"\0")


def clock() -> int:
    """The milliseconds that the kernel counts timestamps by, as ``bpf_ktime_get_ns`` has them."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _TICK_NS


def refused(value: bytes) -> int:
    """The error number with which the kernel refused the entry; 0 when it did not."""
    return max(0, -_said(value))


def took(value: bytes) -> bool:
    """The kernel makes the connection, unless the packet is lost, or its listener has no room."""
    return _said(value) in {_TOOK, REACHED}


def reached(value: bytes) -> bool:
    """The same, and the packet is not lost.  Never of a listener without Segue's filter."""
    return _said(value) == REACHED


def _said(value: bytes) -> int:
    return int.from_bytes(value[SAYS : SAYS + 4], "little", signed=True)


def program(entries: int, notes: int, function: int, header: int) -> list[Instruction]:
    """``entries`` and ``notes`` are the maps' descriptors, ``function`` FUNCTION by the kernel's
    number.  ``header`` is how many bytes the link has before a packet.
    """
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            *(asm.store_imm(Size.U64, FP, _KEY + at, 0) for at in range(0, 40, 8)),
            asm.load(Size.U32, R2, R6, _PROTOCOL),
            asm.jump_imm(Jump.EQ, R2, _IPV4, "IPv4"),
            asm.jump_imm(Jump.EQ, R2, _IPV6, "IPv6"),
            asm.jump("next"),
            asm.Label("IPv4"),
            *asm.packet_bytes(R6, header, _BYTES, 12, "next"),
            asm.load(Size.U8, R2, FP, _BYTES),
            asm.jump_imm(Jump.NE, R2, 0x45, "next"),  # no options
            asm.load(Size.U8, R2, FP, _BYTES + 9),
            asm.jump_imm(Jump.NE, R2, socket.IPPROTO_TCP, "next"),
            asm.load(Size.U16, R2, FP, _BYTES + 6),
            asm.jump_imm(Jump.SET, R2, socket.htons(0x3FFF), "next"),  # no fragment
            *asm.packet_bytes(R6, header + 12, _KEY, 12, "next"),
            asm.mov_imm(R9, header + 20),
            asm.jump("known?"),
            asm.Label("IPv6"),
            *asm.packet_bytes(R6, header + 6, _BYTES, 1, "next"),
            asm.load(Size.U8, R2, FP, _BYTES),
            asm.jump_imm(Jump.NE, R2, socket.IPPROTO_TCP, "next"),
            *asm.packet_bytes(R6, header + 8, _KEY, 36, "next"),
            asm.mov_imm(R9, header + 40),
            asm.Label("known?"),
            *asm.by_key(Helper.MAP_LOOKUP_ELEM, entries, _KEY),
            asm.jump_imm(Jump.EQ, R0, 0, "next"),
            asm.mov_reg(R7, R0),
            asm.call(Helper.KTIME_GET_NS),
            asm.load(Size.U64, R2, R7, UNTIL),
            asm.jump_reg(Jump.GT, R0, R2, "next"),
            *_reset(entries),
            *_listener(header + 20),
            *_right_segment(),
            *_child(function, notes),
            asm.Label("release and drop"),
            *_release(),
            asm.Label("drop"),
            asm.mov_imm(R0, _DROP),
            asm.leave(),
            asm.Label("release and next"),
            *_release(),
            asm.Label("next"),
            asm.mov_imm(R0, _NEXT),
            asm.leave(),
        ]
    )


def _listener(of_ipv4: int) -> list[asm.Item]:
    """In R8 the listener; a connection with these ports has the packet to itself."""
    return [
        asm.mov_imm(R3, KEY_BYTES),
        asm.jump_imm(Jump.NE, R9, of_ipv4, "look up"),
        asm.mov_imm(R3, 12),
        asm.Label("look up"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _KEY),
        asm.mov_imm(R4, _NAMESPACE_OF_THE_PACKET),
        asm.mov_imm(R5, 0),
        asm.call(Helper.SKC_LOOKUP_TCP),
        asm.jump_imm(Jump.EQ, R0, 0, "drop"),
        asm.mov_reg(R8, R0),
        asm.load(Size.U32, R2, R8, _STATE),
        asm.jump_imm(Jump.NE, R2, _LISTEN, "release and next"),
    ]


def _reset(entries: int) -> list[asm.Item]:
    """The header's middle onto the stack; a reset takes the entry out, whoever it comes to.

    A connection that has been made and reset would be made again otherwise.
    """
    return [
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R9),
        asm.alu_imm(Alu.ADD, R2, 4),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _BYTES),
        asm.mov_imm(R4, 12),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "next"),
        asm.load(Size.U8, R2, FP, _BYTES + 9),
        asm.jump_imm(Jump.SET, R2, _RST, "reset"),
        asm.jump("no reset"),
        asm.Label("reset"),
        *asm.by_key(Helper.MAP_DELETE_ELEM, entries, _KEY),
        asm.jump("next"),
        asm.Label("no reset"),
    ]


def _right_segment() -> list[asm.Item]:
    """An ACK with the entry's sequence numbers goes on."""
    return [
        asm.load(Size.U8, R2, FP, _BYTES + 9),
        asm.jump_imm(Jump.SET, R2, _SYN, "release and next"),
        asm.jump_imm(Jump.SET, R2, _ACK_FLAG, "acknowledges"),
        asm.jump("release and drop"),
        asm.Label("acknowledges"),
        asm.load(Size.U32, R2, FP, _BYTES),
        asm.load(Size.U32, R3, R7, _SEQ),
        asm.jump_reg(Jump.NE, R2, R3, "release and drop"),
        asm.load(Size.U32, R2, FP, _BYTES + 4),
        asm.load(Size.U32, R3, R7, _ACK),
        asm.jump_reg(Jump.NE, R2, R3, "release and drop"),
    ]


def _child(function: int, notes: int) -> list[asm.Item]:
    """The child has the cookie of its request (inet_csk_clone_lock), so its note is there before
    it is.
    """
    copy: list[asm.Item] = []
    for at in range(0, _ATTRIBUTES, 4):
        copy += [
            asm.load(Size.U32, R2, R7, at),
            asm.store_reg(Size.U32, FP, _KEY + at, R2),
        ]
    return [
        *copy,
        asm.call(Helper.KTIME_GET_NS),
        asm.alu_imm(Alu.DIV, R0, _TICK_NS),
        asm.load(Size.U32, R2, FP, _KEY + _OWN_CLOCK),
        asm.alu_reg(Alu.ADD, R0, R2),
        asm.store_reg(Size.U32, FP, _KEY + _OWN_CLOCK, R0),
        asm.mov_reg(R1, R8),
        asm.call(Helper.SKC_TO_TCP_SOCK),
        asm.jump_imm(Jump.EQ, R0, 0, "release and drop"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R0),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _KEY),
        asm.mov_imm(R4, _ATTRIBUTES),
        asm.call_kernel(function),
        asm.jump_imm(Jump.NE, R0, 0, "refused"),
        asm.store_imm(Size.U32, R7, SAYS, _TOOK),
        asm.load(Size.U64, R2, R7, _NOTE),
        asm.jump_imm(Jump.EQ, R2, 0, "release and next"),
        asm.mov_reg(R1, R6),
        asm.call(Helper.GET_SOCKET_COOKIE),
        asm.store_reg(Size.U64, FP, _BYTES, R0),
        asm.load_map(R1, notes),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _BYTES),
        asm.mov_reg(R3, R7),
        asm.alu_imm(Alu.ADD, R3, _NOTE),
        asm.mov_imm(R4, 0),
        asm.call(Helper.MAP_UPDATE_ELEM),
        asm.jump("release and next"),
        asm.Label("refused"),
        asm.store_reg(Size.U32, R7, SAYS, R0),
    ]


def _release() -> list[asm.Item]:
    return [asm.mov_reg(R1, R8), asm.call(Helper.SK_RELEASE)]
