"""The program Segue attaches when it is given none: one table of shares, flipped at once.

In this order, for a new connection and for one that migrates:

1. the slot that the SYN's source port is pinned to;
2. ``table[hash % 4096]`` of the active copy;
3. when that listener is gone, up to SCAN_TRIES others that have a share;
4. nothing selected, so the kernel's own hash decides.  Never a refusal.

It counts each decision under the slot selected.  Who asks: ``reuseport_select_sock`` and
``reuseport_migrate_sock`` (net/core/sock_reuseport.c).  Also here: what its maps hold, as bytes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R6, R7, R8, R9, Alu, Helper, Instruction, Jump
from segue.bpf.insn import Size as Width
from segue.errors import UsageError
from segue.policy.counts import Counts
from segue.shares import SIZE

SLOTS = 1024  # listeners a group can have; a sockarray costs 8 bytes for each
NOBODY = 0xFFFF  # in a table: no slot, the kernel's own hash decides
PINS = 64  # one for each worker whose readiness is asked at the same time

# One copy of the table: SIZE slots, how many scan entries count, padding, the scan entries.
SCAN = 64
SCAN_TRIES = 16  # more would have to go at once, and keep their shares, before the hash decides
_LIVE_AT = SIZE * 2
_SCAN_AT = _LIVE_AT + 8

KEY_BYTES = 4
SOCKET_BYTES = 8  # a descriptor going in, the socket's cookie coming out
TABLE_BYTES = _SCAN_AT + SCAN * 2
CONTROL_BYTES = 8
PIN_BYTES = 4

# One element of counters: u64 each, in this order, which is that of Counts.
KINDS = ("new", "request", "child", "fastopen", "cancelled", "fell_back")
COUNTER_BYTES = len(KINDS) * 8
UNSELECTED = SLOTS  # the element of counters for what the kernel's hash decided

# struct sk_reuseport_md and struct bpf_sock (include/uapi/linux/bpf.h).
_DATA = 0
_DATA_END = 8
_HASH = 32
_MIGRATING_SK = 48
_SK_STATE = 72

# What migrates, told by its TCP state (include/net/tcp_states.h).
_TCP_ESTABLISHED = 1  # a child
_TCP_NEW_SYN_RECV = 12  # a half-open request; a Fast Open child is in TCP_SYN_RECV, 3

# The TCP header, at which the data begins (RFC 9293, 3.1).
_FLAGS_AT = 13
_SYN = 0x02
_ACK = 0x10

SK_PASS = 1


@dataclass(frozen=True, slots=True)
class Maps:
    """The descriptors of the maps the program uses."""

    sockets: int  # REUSEPORT_SOCKARRAY: slot -> listener
    tables: int  # ARRAY of two: the copies of the table
    control: int  # ARRAY of one: which copy is active
    pins: int  # HASH: source port, host order -> slot
    counters: int  # PERCPU_ARRAY: slot, or UNSELECTED -> KINDS

    def names(self) -> dict[int, str]:
        """What a listing calls them."""
        return {
            self.sockets: "sockets",
            self.tables: "tables",
            self.control: "control",
            self.pins: "pins",
            self.counters: "counters",
        }


def program(maps: Maps) -> list[Instruction]:
    """The program over these maps.

    R6 is the context, R7 the active table, R8 whether the first choice failed, R9 the slot; the
    key of every look-up is the word below the frame pointer.
    """
    return asm.assemble(
        [
            asm.mov_reg(R6, R1),
            asm.mov_imm(R8, 0),
            *_pinned(maps),
            *_by_table(maps),
            *_by_scan(maps),
            *_counted(maps),
            asm.Label("pass"),
            asm.mov_imm(R0, SK_PASS),
            asm.leave(),
        ]
    )


_KEY = -4


def _lookup(map_descriptor: int) -> list[asm.Item]:
    """R0 = the address of the element whose key is on the stack, or 0."""
    return [
        asm.load_map(R1, map_descriptor),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _KEY),
        asm.call(Helper.MAP_LOOKUP_ELEM),
    ]


def select(sockets: int) -> list[asm.Item]:
    """R0 = 0 when the listener in slot R9 of the array is in this group, and so selected.

    The context is in R6; R1 to R5 and the key on the stack are lost.
    """
    return [
        asm.store_reg(Width.U32, FP, _KEY, R9),
        asm.mov_reg(R1, R6),
        asm.load_map(R2, sockets),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _KEY),
        asm.mov_imm(R4, 0),
        asm.call(Helper.SK_SELECT_REUSEPORT),
    ]


def _select(maps: Maps) -> list[asm.Item]:
    """Try slot R9; when it has a listener of this group, on to counting."""
    return [*select(maps.sockets), asm.jump_imm(Jump.EQ, R0, 0, "count")]


def pin_of(pins: int, none: str) -> list[asm.Item]:
    """R9 = what the SYN's source port is pinned to; on to a label when it is not.

    The context is in R6; R1 to R5 and the key on the stack are lost.
    """
    return [
        # A pin is for a SYN.  What migrates has been let in, and a pin to the listener that
        # leaves would only cost it a failed choice.
        asm.load(Width.U64, R1, R6, _MIGRATING_SK),
        asm.jump_imm(Jump.NE, R1, 0, none),
        # The data begins at the TCP header, whatever the IP version: first the source port.
        asm.load(Width.U64, R1, R6, _DATA),
        asm.load(Width.U64, R2, R6, _DATA_END),
        asm.mov_reg(R3, R1),
        asm.alu_imm(Alu.ADD, R3, 2),
        asm.jump_reg(Jump.GT, R3, R2, none),
        asm.load(Width.U16, R1, R1, 0),
        asm.network_order(R1, 16),
        asm.store_reg(Width.U32, FP, _KEY, R1),
        *_lookup(pins),
        asm.jump_imm(Jump.EQ, R0, 0, none),
        asm.load(Width.U32, R9, R0, 0),
    ]


def _pinned(maps: Maps) -> list[asm.Item]:
    return [*pin_of(maps.pins, "table"), *_select(maps), asm.mov_imm(R8, 1)]


def _by_table(maps: Maps) -> list[asm.Item]:
    return [
        asm.Label("table"),
        asm.store_imm(Width.U32, FP, _KEY, 0),
        *_lookup(maps.control),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.load(Width.U32, R1, R0, 0),
        asm.alu_imm(Alu.AND, R1, 1),
        asm.store_reg(Width.U32, FP, _KEY, R1),
        *_lookup(maps.tables),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.mov_reg(R7, R0),
        asm.load(Width.U32, R1, R6, _HASH),
        asm.alu_imm(Alu.AND, R1, SIZE - 1),
        asm.alu_imm(Alu.LSH, R1, 1),
        asm.alu_reg(Alu.ADD, R1, R7),
        asm.load(Width.U16, R9, R1, 0),
        *_select(maps),
    ]


def _by_scan(maps: Maps) -> list[asm.Item]:
    # Written out and not as a loop: with CAP_BPF and no CAP_PERFMON the verifier also follows what
    # a processor may speculate, where no loop has an end.
    tries = [step for number in range(SCAN_TRIES) for step in _try(maps, number)]
    return [
        asm.mov_imm(R8, 1),
        asm.load(Width.U32, R1, R7, _LIVE_AT),
        asm.jump_imm(Jump.EQ, R1, 0, "unselected"),
        *tries,
        asm.Label("unselected"),
        asm.store_imm(Width.U32, FP, _KEY, UNSELECTED),
    ]


def _try(maps: Maps, number: int) -> list[asm.Item]:
    return [
        # The table used the low bits.  Were they used again, every connection of a listener that
        # is gone would meet the same neighbour: a table dealt in turn has slot = hash % live.
        asm.load(Width.U32, R1, R6, _HASH),
        asm.alu_imm(Alu.RSH, R1, SIZE.bit_length() - 1),
        asm.alu_imm(Alu.ADD, R1, number),
        asm.load(Width.U32, R2, R7, _LIVE_AT),
        asm.alu_reg(Alu.MOD, R1, R2),
        # Changes nothing, as live is at most SCAN; the verifier wants to see it.
        asm.alu_imm(Alu.AND, R1, SCAN - 1),
        asm.alu_imm(Alu.LSH, R1, 1),
        asm.alu_reg(Alu.ADD, R1, R7),
        asm.load(Width.U16, R9, R1, _SCAN_AT),
        *_select(maps),
    ]


def _counted(maps: Maps) -> list[asm.Item]:
    """Count under the key on the stack."""
    return [
        asm.Label("count"),
        *_lookup(maps.counters),
        asm.jump_imm(Jump.EQ, R0, 0, "pass"),
        asm.load(Width.U64, R1, R6, _MIGRATING_SK),
        asm.jump_imm(Jump.EQ, R1, 0, "new"),
        asm.load(Width.U32, R1, R1, _SK_STATE),
        asm.jump_imm(Jump.EQ, R1, _TCP_NEW_SYN_RECV, "request"),
        asm.jump_imm(Jump.EQ, R1, _TCP_ESTABLISHED, "child"),
        *_increment("fastopen"),
        asm.jump("fell back"),
        asm.Label("child"),
        *_increment("child"),
        asm.jump("fell back"),
        asm.Label("request"),
        # A repeated SYN of a request whose listener is gone is asked about too, but moves nothing.
        # On its timer a request comes without data.
        *_flags(when_none="moves"),
        asm.jump_imm(Jump.EQ, R1, _SYN, "pass"),
        asm.Label("moves"),
        *_increment("request"),
        asm.jump("fell back"),
        asm.Label("new"),
        # A listener is also looked for when a segment fits no connection: a late ACK, answered by
        # a reset, or the ACK of a SYN cookie, whose SYN was counted.
        *_flags(when_none="pass"),
        asm.jump_imm(Jump.NE, R1, _SYN, "pass"),
        *_increment("new"),
        asm.Label("fell back"),
        asm.jump_imm(Jump.EQ, R8, 0, "pass"),
        *_increment("fell_back"),
    ]


def _flags(when_none: str) -> list[asm.Item]:
    """R1 = which of SYN and ACK the segment has; on to a label when there is no segment."""
    return [
        asm.load(Width.U64, R1, R6, _DATA),
        asm.load(Width.U64, R2, R6, _DATA_END),
        asm.mov_reg(R3, R1),
        asm.alu_imm(Alu.ADD, R3, _FLAGS_AT + 1),
        asm.jump_reg(Jump.GT, R3, R2, when_none),
        asm.load(Width.U8, R1, R1, _FLAGS_AT),
        asm.alu_imm(Alu.AND, R1, _SYN | _ACK),
    ]


def _increment(kind: str) -> list[asm.Item]:
    """One more in the element at R0.

    Plain, as only this CPU writes there, in softirq or with bottom halves off.  At a constant
    offset: with CAP_BPF and no CAP_PERFMON the verifier lets no pointer be moved by a number that
    differs by path.
    """
    at = KINDS.index(kind) * 8
    return [
        asm.load(Width.U64, R1, R0, at),
        asm.alu_imm(Alu.ADD, R1, 1),
        asm.store_reg(Width.U64, R0, at, R1),
    ]


def encode_number(number: int) -> bytes:
    """A u32 in host order: every key, and the value of a pin."""
    return number.to_bytes(KEY_BYTES, sys.byteorder)


def decode_number(data: bytes) -> int:
    """The other way."""
    return int.from_bytes(data, sys.byteorder)


def encode_socket(descriptor: int) -> bytes:
    """What puts a listener into ``sockets``."""
    return descriptor.to_bytes(SOCKET_BYTES, sys.byteorder)


def encode_control(active: int) -> bytes:
    """What makes this copy of the table the active one."""
    return active.to_bytes(CONTROL_BYTES, sys.byteorder)


def decode_control(data: bytes) -> int:
    """The active copy, 0 or 1."""
    return int.from_bytes(data[:4], sys.byteorder) & 1


def encode_table(entries: Sequence[int]) -> bytes:
    """One copy of the table.  NOBODY is a legal entry; a scan passes it over.

    The scan sees the first SCAN distinct slots, in ascending order.  Raises UsageError unless there
    are SIZE entries, each below SLOTS.
    """
    if len(entries) != SIZE:
        raise UsageError(f"a table has {SIZE} entries, not {len(entries)}")
    slots = sorted(set(entries) - {NOBODY})
    if slots and not 0 <= slots[0] <= slots[-1] < SLOTS:
        raise UsageError(f"slots are 0 to {SLOTS - 1}, not {slots[0]} to {slots[-1]}")
    live = slots[:SCAN]
    scan = live + [NOBODY] * (SCAN - len(live))
    return (
        array("H", entries).tobytes()
        + encode_number(len(live))
        + encode_number(0)
        + array("H", scan).tobytes()
    )


def decode_table(data: bytes) -> list[int]:
    """The entries of one copy of the table."""
    return array("H", data[:_LIVE_AT]).tolist()


EMPTY_TABLE = encode_table([NOBODY] * SIZE)
NO_COUNTS = bytes(COUNTER_BYTES)


def decode_counters(values: Iterable[bytes]) -> Counts:
    """One element of ``counters``, its values for each CPU added up."""
    total = Counts()
    for value in values:
        total += Counts(*array("Q", value))
    return total
