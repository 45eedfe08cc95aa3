"""One eBPF instruction as a value, and its bytes (Documentation/bpf/standardization).

An instruction is one 8-byte slot, except the load of a 64-bit immediate, which takes two::

    byte   0        1          2    3      4    5    6    7
         opcode  src | dst    off (s16)      imm (s32)

Little-endian machines only: a big-endian one swaps the two registers as well as the bytes.
Left out: what an instruction does, which is the interpreter's and the kernel's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from segue.errors import UsageError, WireError

SLOT_BYTES = 8
_SLOT = struct.Struct("<BBhi")

R0 = 0  # what a helper or the program returns
R1 = 1  # first argument; the context at entry
R2 = 2  # second argument
R3 = 3  # third argument
R4 = 4  # fourth argument
R5 = 5  # fifth argument; R0 to R5 do not survive a call
R6 = 6  # kept over calls
R7 = 7  # kept over calls
R8 = 8  # kept over calls
R9 = 9  # kept over calls
FP = 10  # end of the 512-byte stack; read only

# The class: the low three bits of the opcode.
LD = 0x00  # the 64-bit immediate, and classic packet loads
LDX = 0x01  # memory to register
ST = 0x02  # immediate to memory
STX = 0x03  # register to memory, and atomics
ALU32 = 0x04  # arithmetic on 32 bits; the upper half of the result is zero
JMP = 0x05  # jumps that compare 64 bits, calls, exit
JMP32 = 0x06  # jumps that compare 32 bits
ALU64 = 0x07  # arithmetic on 64 bits

CLASS_MASK = 0x07
OP_MASK = 0xF0
SIZE_MASK = 0x18
MODE_MASK = 0xE0

# Where an arithmetic instruction's or a jump's second operand is.
K = 0x00  # the immediate
X = 0x08  # the source register

# The mode of a load or a store.
IMM = 0x00  # 64-bit immediate
MEM = 0x60  # ordinary memory
ATOMIC = 0xC0  # what to do is in the immediate

ATOMIC_ADD = 0x00
ATOMIC_FETCH = 0x01  # or-ed in: the old value comes back in the source register

LD_IMM64 = LD | 0x18 | IMM  # the only instruction of two slots

# The source "register" of LD_IMM64 says what the number means.
PSEUDO_NUMBER = 0  # a number
PSEUDO_MAP_FD = 1  # a map's descriptor; the loaded program has the map's address
PSEUDO_MAP_VALUE = 2  # descriptor in the low half, offset into its one value in the high half

MAY_GOTO = JMP | 0xE0  # the end of a loop that the kernel bounds (Linux 6.9)

PSEUDO_CALL = 1  # in a call's source register: a function of this program, by distance
PSEUDO_KFUNC_CALL = 2  # the same: a function of the kernel, by its number in the kernel's BTF


class Alu(IntEnum):
    """What an arithmetic instruction does to its destination."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30  # unsigned; by zero gives zero
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    NEG = 0x80
    MOD = 0x90  # unsigned; by zero leaves the destination
    XOR = 0xA0
    MOV = 0xB0
    ARSH = 0xC0
    END = 0xD0  # byte order: K to little-endian, X to big-endian; imm is the width in bits


class Jump(IntEnum):
    """When a jump is taken: destination compared with source register or immediate."""

    ALWAYS = 0x00
    EQ = 0x10
    GT = 0x20  # unsigned
    GE = 0x30  # unsigned
    SET = 0x40  # any common bit
    NE = 0x50
    SGT = 0x60
    SGE = 0x70
    CALL = 0x80
    EXIT = 0x90
    LT = 0xA0  # unsigned
    LE = 0xB0  # unsigned
    SLT = 0xC0
    SLE = 0xD0


class Size(IntEnum):
    """How much a load or a store moves."""

    U32 = 0x00
    U16 = 0x08
    U8 = 0x10
    U64 = 0x18

    @property
    def octets(self) -> int:
        """In bytes."""
        return {Size.U8: 1, Size.U16: 2, Size.U32: 4, Size.U64: 8}[self]


class Helper(IntEnum):
    """Kernel functions that our programs may call, by number (include/uapi/linux/bpf.h).

    SETSOCKOPT is for a program at bind(2), those about an SKC or SK for the carrying of accepted
    connections, SEQ_WRITE and SOCK_FROM_FILE for an iterator, the others are for SK_REUSEPORT ones.
    """

    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    KTIME_GET_NS = 5
    TRACE_PRINTK = 6
    GET_PRANDOM_U32 = 7
    GET_SMP_PROCESSOR_ID = 8
    TAIL_CALL = 12
    GET_CURRENT_PID_TGID = 14
    GET_CURRENT_COMM = 16
    SKB_LOAD_BYTES = 26
    GET_NUMA_NODE_ID = 42
    GET_SOCKET_COOKIE = 46
    SETSOCKOPT = 49
    SKB_LOAD_BYTES_RELATIVE = 68
    GET_CURRENT_CGROUP_ID = 80
    SK_SELECT_REUSEPORT = 82
    SK_RELEASE = 86
    SPIN_LOCK = 93
    SPIN_UNLOCK = 94
    SKC_LOOKUP_TCP = 99
    PROBE_READ_KERNEL = 113
    JIFFIES64 = 118
    KTIME_GET_BOOT_NS = 125
    SEQ_WRITE = 127
    RINGBUF_OUTPUT = 130
    RINGBUF_RESERVE = 131
    RINGBUF_SUBMIT = 132
    RINGBUF_DISCARD = 133
    RINGBUF_QUERY = 134
    SKC_TO_TCP_SOCK = 137
    KTIME_GET_COARSE_NS = 160
    SOCK_FROM_FILE = 162
    LOOP = 181


@dataclass(frozen=True, slots=True)
class Instruction:
    """Every field in range, by construction; raises UsageError otherwise.

    ``imm`` is signed, 32 bits; in LD_IMM64 it is unsigned, 64 bits.
    """

    opcode: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0

    def __post_init__(self) -> None:
        low, high = (0, 1 << 64) if self.wide else (-(1 << 31), 1 << 31)
        for name, value, first, past in (
            ("opcode", self.opcode, 0, 256),
            ("dst", self.dst, 0, 16),
            ("src", self.src, 0, 16),
            ("off", self.off, -(1 << 15), 1 << 15),
            ("imm", self.imm, low, high),
        ):
            if not first <= value < past:
                raise UsageError(
                    f"an instruction's {name} must be between {first} and {past - 1} (got {value})"
                )

    @property
    def wide(self) -> bool:
        """Takes two slots."""
        return self.opcode == LD_IMM64

    @property
    def names_map(self) -> bool:
        """Loads the address of a map; ``imm`` says which."""
        return self.wide and self.src == PSEUDO_MAP_FD

    @property
    def slots(self) -> int:
        """How far the next instruction is; jumps count in slots."""
        return 2 if self.wide else 1

    @property
    def family(self) -> int:
        """The class: LD, LDX, ST, STX, ALU32, JMP, JMP32 or ALU64."""
        return self.opcode & CLASS_MASK

    def encode(self) -> bytes:
        """8 bytes, or 16 for LD_IMM64."""
        registers = self.src << 4 | self.dst
        if not self.wide:
            return _SLOT.pack(self.opcode, registers, self.off, self.imm)
        low, high = _signed(self.imm & 0xFFFFFFFF), _signed(self.imm >> 32)
        return _SLOT.pack(self.opcode, registers, self.off, low) + _SLOT.pack(0, 0, 0, high)


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def encode(instructions: Iterable[Instruction]) -> bytes:
    """The bytes of a program."""
    return b"".join(one.encode() for one in instructions)


def decode(data: bytes) -> list[Instruction]:
    """The instructions of a program; ``encode`` gives the same bytes back.

    Raises WireError, naming the slot, when the bytes end inside an instruction or the second slot
    of a LD_IMM64 has more than its immediate.  An unknown opcode is no error here.
    """
    if len(data) % SLOT_BYTES:
        raise WireError(f"slot {len(data) // SLOT_BYTES}", "ends inside a slot", data)
    slots = list(_SLOT.iter_unpack(data))
    found: list[Instruction] = []
    place = 0
    while place < len(slots):
        opcode, registers, off, imm = slots[place]
        if opcode == LD_IMM64:
            if place + 1 == len(slots):
                raise WireError(f"slot {place}", "has no second slot", data[place * SLOT_BYTES :])
            *rest, high = slots[place + 1]
            if any(rest):
                second = data[(place + 1) * SLOT_BYTES :]
                raise WireError(
                    f"slot {place + 1}", "is not the upper half of an immediate", second
                )
            imm = (high & 0xFFFFFFFF) << 32 | imm & 0xFFFFFFFF
        one = Instruction(opcode, registers & 0xF, registers >> 4, off, imm)
        found.append(one)
        place += one.slots
    return found
