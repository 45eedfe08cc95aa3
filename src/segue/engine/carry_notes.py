# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""The filter that connections inherit from a listener: it holds them, and takes notes.

This file is under the MIT licence or the GNU General Public License, version 2, at your choice
(LICENSE.MIT), as the classifier is: the kernel shows its structures only to such programs.

*Hold*: until a time in a map, and for as long as the connection is in repair mode, its owner gets
nothing.  What is dropped is kept, to be given back (``engine/carry_back.py``), or the client sends
again.  *Note*: what had been written when the client last sent
something, and what the first bytes of its last request were (``observe/request_head.py``).  A
request begins with the first bytes that come after something has been written, unless that is
known to be a part of an answer.  Bytes that came before are no news.

*Stray*: what comes to a listener of a connection that no process has is dropped, and comes again:
its kernel would reset the client.  The classifier does the same, where it sees the packet.  Not so
what had passed it while the connection was still there, a fragment, or a packet with options of IP.

A listener's packets are not noted, so a request that comes with the last segment of a handshake is
not seen.
"""

from __future__ import annotations

from segue.bpf import asm
from segue.bpf.btf import Btf
from segue.bpf.btf_fields import Field, field, function
from segue.bpf.insn import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
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
from segue.engine import carry_back, carry_classifier, carry_head, carry_look, carry_waiting
from segue.engine.carry_look import COMMON, load
from segue.observe import request_head
from segue.observe.answer import Answer, Phase, Said
from segue.observe.carrying import LISTEN, Note
from segue.observe.request_head import BLOCK, Seen

# struct __sk_buff
_SKB_LEN, _SKB_SK = 0, 168
# On the stack: the cookie; from the sequence number to the window, of the packet's header; what had
# been written; flags that stay; a key and the block; the note that is new; then what is read of the
# head; and the packet.
_COOKIE, _HEADER, _WRITTEN, _KEPT, _ZERO, _BLOCK, _NOTE = -8, -24, -28, -32, -36, -48, -96
_BODY, _END, _PACKET = -104, -108, -120
# In the header of TCP, which is what a socket's filter sees first.
_FLAGS_AT, _SYN, _RST = 13, 0x02, 0x04
_PORTS_AT, _PORTS_BYTES = 0, 4
# In those of IP.
_IPV4_ADDRESSES, _IPV6_ADDRESSES = (12, 8), (8, 32)  # where, and how many bytes
_OWN_PACKET = "bpf_cast_to_kern_ctx"
_KEY = -88  # on the stack, of an entry of the classifier
_STAY = Seen.EARLY | Seen.PREFACE
# The map's value: the time, these words, then what is noted of the answer: how much is to be
# skipped before it is read again, and more words (``engine/carry_answer.py``).
WRITTEN, START, SEEN, _TO_END = 8, 12, 16, 20
LEFT, TO, AT, PHASE, SAID = 24, 32, 36, 40, 44


def encode(note: Note) -> bytes:
    """The map's value, with an answer of which nothing was seen."""
    words = (note.written, note.start, note.seen, note.end)
    numbers = b"".join(one.to_bytes(4, "little") for one in words)
    return (note.time_ns.to_bytes(8, "little") + numbers).ljust(carry_look.NOTE_BYTES, b"\0")


def decode(value: bytes) -> Note:
    """From the map's value."""
    written, start, seen, end, to, at, phase, said = (
        int.from_bytes(value[place : place + 4], "little")
        for place in (WRITTEN, START, SEEN, _TO_END, TO, AT, PHASE, SAID)
    )
    answer = Answer(Phase(phase), to, at, closes=bool(said & Said.CLOSE))
    return Note(int.from_bytes(value[:8], "little"), written, start, end, Seen(seen), answer)


def program(
    until: int,
    entries: int,
    back: int,
    notes: int,
    block: int,
    places: int,
    bell: int,
    btf: Btf,
) -> list[Instruction]:
    """The filter, by the descriptors of its maps: from cookies to a time in ns, the classifier's,
    what is to be given back, from cookies to notes, a block for each processor, and those of
    ``carry_waiting``.  Raises NotSupported.
    """
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            asm.store_reg(Size.U64, FP, _PACKET, R1),
            asm.call(Helper.GET_SOCKET_COOKIE),
            asm.store_reg(Size.U64, FP, _COOKIE, R0),
            *_hold(until, field(btf, "tcp_sock", "repair")),
            *_stray(entries, btf),
            *_payload(btf),
            *_same_request(notes),
            *_read_block(block),
            *carry_head.read(_HEADER, _BODY, _END),
            *_write_down(notes),
            asm.load(Size.U64, R6, FP, _PACKET),
            *carry_waiting.sample(places, bell, _COOKIE, _HEADER, _ZERO),
            asm.Label("pass"),
            asm.mov_imm(R0, -1),
            asm.leave(),
            asm.Label("drop"),
            *carry_back.keep(back, _ZERO, "dropped"),
            asm.Label("dropped"),
            asm.mov_imm(R0, 0),
            asm.leave(),
        ]
    )


def _hold(until: int, repair: Field) -> list[asm.Item]:
    """In R7 the connection."""
    return [
        *asm.by_key(Helper.MAP_LOOKUP_ELEM, until, _COOKIE),
        asm.mov_imm(R8, 0),
        asm.jump_imm(Jump.EQ, R0, 0, "never held"),
        asm.load(Size.U64, R8, R0, 0),
        asm.Label("never held"),
        asm.load(Size.U64, R1, R6, _SKB_SK),
        asm.jump_imm(Jump.EQ, R1, 0, "pass"),
        asm.call(Helper.SKC_TO_TCP_SOCK),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.mov_reg(R7, R0),
        *load(R2, R7, repair),
        asm.jump_imm(Jump.NE, R2, 0, "drop"),
        asm.jump_imm(Jump.EQ, R8, 0, "not held"),
        asm.call(Helper.KTIME_GET_NS),
        asm.jump_reg(Jump.LE, R8, R0, "not held"),
        # A reset does not come again.
        *asm.packet_bytes(R6, _FLAGS_AT, _HEADER, 1, "pass"),
        asm.load(Size.U8, R2, FP, _HEADER),
        asm.jump_imm(Jump.SET, R2, _RST, "pass"),
        asm.jump("drop"),
        asm.Label("not held"),
    ]


def _stray(entries: int, btf: Btf) -> list[asm.Item]:
    """What comes to a listener ends here.

    A packet that the classifier has given to it makes the connection, and that it has come so far
    is written down.  Only such a one has still something to be called at its end: the request that
    it came with (sock_pfree).
    """
    return [
        *load(R2, R7, field(btf, "tcp_sock", f"{COMMON}skc_state")),
        asm.jump_imm(Jump.NE, R2, LISTEN, "no listener"),
        *asm.packet_bytes(R6, _FLAGS_AT, _HEADER, 1, "pass"),
        asm.load(Size.U8, R2, FP, _HEADER),
        asm.jump_imm(Jump.SET, R2, _SYN | _RST, "pass"),
        asm.mov_reg(R1, R6),
        asm.call_kernel(function(btf, _OWN_PACKET, carry_classifier.NEEDS)),
        *load(R9, R0, field(btf, "sk_buff", "destructor")),
        *(asm.store_imm(Size.U64, FP, _KEY + at, 0) for at in range(0, 40, 8)),
        *carry_waiting.from_header(0, FP, _ZERO, 1, "pass"),
        asm.load(Size.U8, R2, FP, _ZERO),
        asm.alu_imm(Alu.RSH, R2, 4),
        asm.jump_imm(Jump.EQ, R2, 6, "stray of IPv6"),
        *_key(*_IPV4_ADDRESSES),
        asm.jump("entry?"),
        asm.Label("stray of IPv6"),
        *_key(*_IPV6_ADDRESSES),
        asm.Label("entry?"),
        *asm.by_key(Helper.MAP_LOOKUP_ELEM, entries, _KEY),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.jump_imm(Jump.EQ, R9, 0, "stray"),
        asm.store_imm(Size.U32, R0, carry_classifier.SAYS, carry_classifier.REACHED),
        asm.jump("pass"),
        asm.Label("stray"),
        asm.load(Size.U64, R8, R0, carry_classifier.UNTIL),
        asm.call(Helper.KTIME_GET_NS),
        asm.jump_reg(Jump.GT, R0, R8, "pass"),
        asm.jump("drop"),
        asm.Label("no listener"),
    ]


def _key(at: int, count: int) -> list[asm.Item]:
    return [
        *carry_waiting.from_header(at, FP, _KEY, count, "pass"),
        *asm.packet_bytes(R6, _PORTS_AT, _KEY + count, _PORTS_BYTES, "pass"),
    ]


def _payload(btf: Btf) -> list[asm.Item]:
    """In R8 where it begins, in R9 how long it is; on the stack its numbers and what is written."""
    return [
        *asm.packet_bytes(R6, 4, _HEADER, 12, "pass"),
        asm.load(Size.U8, R8, FP, _HEADER + 8),
        asm.alu_imm(Alu.RSH, R8, 4),
        asm.alu_imm(Alu.LSH, R8, 2),
        asm.load(Size.U32, R9, R6, _SKB_LEN),
        asm.alu_reg(Alu.SUB, R9, R8),
        asm.jump_imm(Jump.SLE, R9, 0, "pass"),
        asm.load(Size.U32, R2, FP, _HEADER),
        asm.network_order(R2, 32),
        asm.store_reg(Size.U32, FP, _HEADER, R2),
        asm.alu_reg(Alu.ADD, R2, R9),
        *load(R3, R7, field(btf, "tcp_sock", "rcv_nxt")),
        asm.alu_reg(Alu.SUB, R2, R3),
        asm.alu_imm(Alu.LSH, R2, 32),
        asm.alu_imm(Alu.ARSH, R2, 32),
        asm.jump_imm(Jump.SLE, R2, 0, "pass"),  # had come before
        *load(R2, R7, field(btf, "tcp_sock", "write_seq")),
        asm.store_reg(Size.U32, FP, _WRITTEN, R2),
    ]


def _same_request(notes: int) -> list[asm.Item]:
    """In R7 the note, or 0.  More of the same request ends here."""
    another: list[asm.Item] = []
    for method in request_head.METHODS:
        another += [asm.jump_imm(Jump.EQ, R2, int.from_bytes(method, "little"), "another")]
    return [
        asm.store_imm(Size.U32, FP, _KEPT, 0),
        *asm.by_key(Helper.MAP_LOOKUP_ELEM, notes, _COOKIE),
        asm.mov_imm(R7, 0),
        asm.jump_imm(Jump.EQ, R0, 0, "begins"),
        asm.mov_reg(R7, R0),
        asm.load(Size.U32, R2, R7, SEEN),
        asm.alu_imm(Alu.AND, R2, _STAY),
        asm.store_reg(Size.U32, FP, _KEPT, R2),
        asm.load(Size.U32, R2, FP, _WRITTEN),
        asm.load(Size.U32, R3, R7, WRITTEN),
        asm.jump_reg(Jump.EQ, R2, R3, "same request"),
        # All that was written has been seen, and is not a whole answer.
        asm.load(Size.U32, R3, R7, AT),
        asm.jump_reg(Jump.NE, R2, R3, "begins"),
        asm.load(Size.U32, R3, R7, PHASE),
        asm.jump_imm(Jump.LT, R3, Phase.HEAD, "begins"),
        asm.Label("same request"),
        asm.call(Helper.KTIME_GET_NS),
        asm.store_reg(Size.U64, R7, 0, R0),
        asm.jump_imm(Jump.SLT, R9, 4, "pass"),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R8),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _BLOCK),
        asm.mov_imm(R4, 4),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "pass"),
        asm.load(Size.U32, R2, FP, _BLOCK),
        *another,
        asm.jump("pass"),
        asm.Label("another"),
        asm.load(Size.U32, R2, R7, SEEN),
        asm.alu_imm(Alu.OR, R2, Seen.EARLY),
        asm.store_reg(Size.U32, R7, SEEN, R2),
        asm.jump("pass"),
        asm.Label("begins"),
        asm.load(Size.U32, R2, FP, _HEADER + 4),
        asm.network_order(R2, 32),
        asm.load(Size.U32, R3, FP, _WRITTEN),
        asm.jump_reg(Jump.EQ, R2, R3, "after the answer"),
        asm.load(Size.U32, R2, FP, _KEPT),
        asm.alu_imm(Alu.OR, R2, Seen.EARLY),
        asm.store_reg(Size.U32, FP, _KEPT, R2),
        asm.Label("after the answer"),
    ]


def _read_block(block: int) -> list[asm.Item]:
    """In R6 the block, and in R8 how much of it was read."""
    return [
        asm.store_imm(Size.U32, FP, _ZERO, 0),
        asm.load_map(R1, block),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _ZERO),
        asm.call(Helper.MAP_LOOKUP_ELEM),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.store_reg(Size.U64, FP, _BLOCK, R0),
        asm.mov_reg(R1, R6),
        asm.mov_reg(R2, R8),
        asm.mov_reg(R3, R0),
        asm.alu_imm(Alu.ADD, R3, carry_head.AT_BLOCK),
        asm.jump_imm(Jump.LE, R9, BLOCK, "as long as it is"),
        asm.mov_imm(R9, BLOCK),
        asm.Label("as long as it is"),
        asm.mov_reg(R4, R9),
        asm.mov_reg(R8, R9),
        asm.call(Helper.SKB_LOAD_BYTES),
        asm.jump_imm(Jump.NE, R0, 0, "pass"),
        asm.load(Size.U64, R6, FP, _BLOCK),
    ]


def _write_down(notes: int) -> list[asm.Item]:
    return [
        asm.load(Size.U32, R2, FP, _KEPT),
        asm.alu_reg(Alu.OR, R9, R2),
        asm.call(Helper.KTIME_GET_NS),
        asm.jump_imm(Jump.EQ, R7, 0, "first"),
        *_fill(R7, 0),
        asm.jump("written"),
        asm.Label("first"),
        *_fill(FP, _NOTE),
        *(
            asm.store_imm(Size.U64, FP, _NOTE + at, 0)
            for at in range(LEFT, carry_look.NOTE_BYTES, 8)
        ),
        asm.load_map(R1, notes),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _COOKIE),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _NOTE),
        asm.mov_imm(R4, 0),
        asm.call(Helper.MAP_UPDATE_ELEM),
        asm.Label("written"),
    ]


def _fill(target: int, at: int) -> list[asm.Item]:
    return [
        asm.store_reg(Size.U64, target, at, R0),
        asm.load(Size.U32, R2, FP, _WRITTEN),
        asm.store_reg(Size.U32, target, at + WRITTEN, R2),
        asm.load(Size.U32, R2, FP, _HEADER),
        asm.store_reg(Size.U32, target, at + START, R2),
        asm.store_reg(Size.U32, target, at + SEEN, R9),
        asm.load(Size.U32, R2, FP, _END),
        asm.store_reg(Size.U32, target, at + _TO_END, R2),
    ]
