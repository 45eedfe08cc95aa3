"""An eBPF program run in Python, held to what the kernel's verifier would let it do.

``Machine`` has the maps, the listeners and what a program may ask for; ``run`` is one decision.
What the verifier proves for every path, this refuses on the path that is taken: a register or a
byte that was never set, an access outside its region, a pointer calculated with or leaked, a loop
without an end.  Semantics: Documentation/bpf/standardization/instruction-set.rst; helpers:
include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from segue.bpf import insn
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R5, Alu, Helper, Instruction, Jump, Size
from segue.bpf.memory import STACK, WORD, Fault, MapKind, MapMemory, Pointer, Region, Value
from segue.errors import ProgramFault, UsageError

STACK_BYTES = 512  # MAX_BPF_STACK
MOST_STEPS = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS
_HALF = (1 << 32) - 1
_ARGUMENTS = (R1, R2, R3, R4, R5)


@dataclass(frozen=True, slots=True)
class Context:
    """What a SK_REUSEPORT program is called with.

    ``metadata`` is struct sk_reuseport_md with its pointers in place; ``packet`` the bytes from
    the IP header on, empty when nothing arrived; the cookies are those of the two sockets, 0 for
    no migrating one.
    """

    metadata: Region
    network: bytes
    listener: Region
    listener_cookie: int
    migrating: Region | None = None
    migrating_cookie: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The program's answer, what it selected last (None: nothing) and what it took."""

    answer: int
    selected: int | None
    steps: int


@dataclass(slots=True)
class Machine:
    """Runs one program over maps named by the descriptors in it.

    ``listening`` says which slots of a SOCKETS map have a listener.  ``clock``, ``chance`` and
    ``cpu`` answer the helpers of that purpose.  Raises UsageError for a program whose jumps or
    opcodes are none.
    """

    program: Sequence[Instruction]
    maps: Mapping[int, MapMemory]
    listening: Collection[int] = ()
    clock: Callable[[], int] = lambda: 0
    chance: Callable[[], int] = lambda: 0
    cpu: int = 0
    slots: list[int] = field(init=False)  # of each instruction
    places: dict[int, int] = field(init=False)  # slot -> number of the instruction there

    def __post_init__(self) -> None:
        self.slots, slot = [], 0
        for one in self.program:
            self.slots.append(slot)
            slot += one.slots
        self.places = {place: number for number, place in enumerate(self.slots)}
        for number, one in enumerate(self.program):
            jumps = one.family in {insn.JMP, insn.JMP32} and _op(one) not in {Jump.CALL, Jump.EXIT}
            if jumps and self.slots[number] + 1 + one.off not in self.places:
                raise UsageError(f"slot {self.slots[number]} jumps to no instruction")
        last = self.program[-1] if self.program else None
        if last is None or last.family != insn.JMP or _op(last) not in {Jump.EXIT, Jump.ALWAYS}:
            raise UsageError("a program ends with an exit or a jump")

    def run(self, context: Context) -> Outcome:
        """One decision.  Raises ProgramFault, naming the slot, for a step no verifier allows."""
        return _Run(self, context).run()


class _Run:
    """The state of one run."""

    def __init__(self, machine: Machine, context: Context) -> None:
        self.machine, self.context = machine, context
        stack = Region(STACK, bytearray(STACK_BYTES), writable=True, fresh=True)
        self.registers: list[Value | None] = [None] * 11
        self.registers[R1] = Pointer(context.metadata, 0)
        self.registers[FP] = Pointer(stack, STACK_BYTES)
        self.selected: int | None = None
        self.next = 0

    def run(self) -> Outcome:
        for steps in range(1, MOST_STEPS + 1):
            here = self.next
            try:
                self.next += 1
                if self._step(here, self.machine.program[here]):
                    return Outcome(self._number(R0), self.selected, steps)
            except Fault as fault:
                raise ProgramFault(self.machine.slots[here], str(fault)) from None
        raise ProgramFault(self.machine.slots[self.next], f"more than {MOST_STEPS} steps")

    def _step(self, here: int, one: Instruction) -> bool:
        """Do it; whether it was the exit."""
        match one.family:
            case insn.ALU32 | insn.ALU64:
                self._calculate(one)
            case insn.LDX if one.opcode & insn.MODE_MASK == insn.MEM:
                size = Size(one.opcode & insn.SIZE_MASK)
                self._set(one.dst, self._at(one.src, one.off, size))
            case insn.ST | insn.STX if one.opcode & insn.MODE_MASK == insn.MEM:
                size = Size(one.opcode & insn.SIZE_MASK)
                value = self._get(one.src) if one.family == insn.STX else one.imm & WORD
                place = self._pointer(one.dst)
                place.region.write(place.offset + one.off, size.octets, value)
            case insn.STX if one.opcode & insn.MODE_MASK == insn.ATOMIC:
                self._atomic(one)
            case insn.LD if one.wide:
                self._set(one.dst, self._wide(one))
            case insn.JMP if _op(one) == Jump.EXIT:
                return True
            case insn.JMP if _op(one) == Jump.CALL:
                self._call(one)
            case insn.JMP | insn.JMP32:
                if _op(one) == Jump.ALWAYS or self._holds(one):
                    self.next = self.machine.places[self.machine.slots[here] + 1 + one.off]
            case _:
                raise Fault(f"opcode {one.opcode:#04x} is unknown")
        return False

    # Registers

    def _get(self, register: int) -> Value:
        found = self.registers[register] if register < len(self.registers) else None
        if found is None:
            raise Fault(f"r{register} was never set")
        return found

    def _number(self, register: int) -> int:
        found = self._get(register)
        if not isinstance(found, int):
            raise Fault(f"r{register} is a pointer, and a number is needed")
        return found

    def _pointer(self, register: int) -> Pointer:
        found = self._get(register)
        if not isinstance(found, Pointer):
            raise Fault(f"r{register} is {found}, and a pointer is needed")
        return found

    def _map(self, register: int) -> MapMemory:
        found = self._get(register)
        if not isinstance(found, MapMemory):
            raise Fault(f"r{register} is not a map")
        return found

    def _set(self, register: int, value: Value) -> None:
        if register >= FP:
            raise Fault(f"r{register} is read only")
        self.registers[register] = value & WORD if isinstance(value, int) else value

    def _at(self, register: int, off: int, size: Size) -> Value:
        place = self._pointer(register)
        return place.region.read(place.offset + off, size.octets)

    def _wide(self, one: Instruction) -> Value:
        match one.src:
            case insn.PSEUDO_NUMBER:
                return one.imm
            case insn.PSEUDO_MAP_FD if one.imm in self.machine.maps:
                return self.machine.maps[one.imm]
        raise Fault(f"r{one.dst} is given an address that is not a map here")

    def _atomic(self, one: Instruction) -> None:
        size = Size(one.opcode & insn.SIZE_MASK)
        if size.octets < 4 or one.imm & ~insn.ATOMIC_FETCH != insn.ATOMIC_ADD:
            raise Fault(f"atomic operation {one.imm:#x} on {size.name} is unknown")
        more, place = self._number(one.src), self._pointer(one.dst)
        before = place.region.read(place.offset + one.off, size.octets)
        if not isinstance(before, int):
            raise Fault("adds to a pointer in memory")
        place.region.write(place.offset + one.off, size.octets, before + more)
        if one.imm & insn.ATOMIC_FETCH:
            self._set(one.src, before)

    # Arithmetic

    def _operand(self, one: Instruction) -> Value:
        if one.opcode & insn.X:
            return self._get(one.src)
        return one.imm & WORD

    def _calculate(self, one: Instruction) -> None:
        try:
            op = Alu(_op(one))
        except ValueError:
            raise Fault(f"opcode {one.opcode:#04x} is unknown") from None
        wide = one.family == insn.ALU64
        if one.off:
            raise Fault("a signed division or move needs Linux 6.6")
        if op is Alu.END:
            self._set(one.dst, self._swapped(one))
            return
        if op is Alu.MOV:
            value = self._operand(one)
            if not wide and not isinstance(value, int):
                raise Fault("cuts a pointer to 32 bits")
            self._set(one.dst, value & _HALF if not wide and isinstance(value, int) else value)
            return
        left, right = self._get(one.dst), 0 if op is Alu.NEG else self._operand(one)
        if isinstance(left, int) and isinstance(right, int):
            self._set(one.dst, _plain(op, left, right, 64 if wide else 32))
        elif not wide or isinstance(left, MapMemory) or isinstance(right, MapMemory):
            raise Fault(f"calculates {op.name} with a pointer")
        else:
            self._set(one.dst, _moved(op, left, right))

    def _swapped(self, one: Instruction) -> int:
        """To network order with X, to little-endian with K; the rest becomes zero."""
        if one.imm not in {16, 32, 64} or one.family != insn.ALU32:
            raise Fault("exchanges the bytes of a width there is not")
        low = self._number(one.dst) & (1 << one.imm) - 1
        data = low.to_bytes(one.imm // 8, sys.byteorder)
        return int.from_bytes(data, "big" if one.opcode & insn.X else "little")

    def _holds(self, one: Instruction) -> bool:
        try:
            when = Jump(_op(one))
        except ValueError:
            raise Fault(f"opcode {one.opcode:#04x} is unknown") from None
        left, right = self._get(one.dst), self._operand(one)
        if isinstance(left, int) and isinstance(right, int):
            bits = 64 if one.family == insn.JMP else 32
            return compared(when, left, right, bits)
        if one.family == insn.JMP32:
            raise Fault("compares the half of a pointer")
        if right == 0 and when in {Jump.EQ, Jump.NE}:
            return when is Jump.NE
        if isinstance(left, Pointer) and isinstance(right, Pointer) and left.region is right.region:
            return compared(when, left.offset & WORD, right.offset & WORD, 64)
        raise Fault("compares a pointer with something of another sort")

    # Helpers

    def _call(self, one: Instruction) -> None:
        if one.src:
            raise Fault("calls a function of its own, which is not run here")
        try:
            helper = Helper(one.imm)
        except ValueError:
            raise Fault(f"helper {one.imm} is unknown") from None
        if helper not in _HELPERS:
            raise Fault(f"helper {helper.name} is not run here")
        answer = _HELPERS[helper](self)
        for register in _ARGUMENTS:
            self.registers[register] = None
        self._set(R0, answer)

    def _taken(self, register: int, octets: int) -> bytes:
        place = self._pointer(register)
        return place.region.take(place.offset, octets)

    def _key(self, of: MapMemory, register: int) -> int:
        return int.from_bytes(self._taken(register, of.key_bytes), sys.byteorder)

    def _elements(self, register: int) -> MapMemory:
        found = self._map(register)
        if found.kind in {MapKind.SOCKETS, MapKind.RING}:
            raise Fault(f"looks into map {found.name}, which no program can")
        return found

    def lookup(self) -> Value:
        """bpf_map_lookup_elem."""
        of = self._elements(R1)
        return of.lookup(self._key(of, R2)) or 0

    def update(self) -> Value:
        """bpf_map_update_elem, with no flag."""
        of = self._elements(R1)
        if self._number(R4):
            raise Fault("updates a map with a flag, which is not run here")
        return of.update(self._key(of, R2), self._taken(R3, of.value_bytes))

    def delete(self) -> Value:
        """bpf_map_delete_elem."""
        of = self._elements(R1)
        return of.delete(self._key(of, R2))

    def select(self) -> Value:
        """bpf_sk_select_reuseport: 0, or -ENOENT for a slot without a listener."""
        of = self._map(R2)
        place = self._pointer(R1)
        if place.region is not self.context.metadata or of.kind is not MapKind.SOCKETS:
            raise Fault("selects without its context or from a map of no listeners")
        if self._number(R4):
            raise Fault("selects with a flag, of which there are none")
        slot = self._key(of, R3)
        if slot >= of.entries or slot not in self.machine.listening:
            return -errno.ENOENT
        self.selected = slot
        return 0

    def cookie(self) -> Value:
        """bpf_get_socket_cookie of one of the two sockets."""
        region = self._pointer(R1).region
        if region is self.context.listener:
            return self.context.listener_cookie
        if region is self.context.migrating:
            return self.context.migrating_cookie
        raise Fault("asks for the cookie of something that is not a socket")

    def load_bytes(self) -> Value:
        """bpf_skb_load_bytes_relative from the network header: 0, or -EFAULT outside."""
        if self._pointer(R1).region is not self.context.metadata:
            raise Fault("loads from the packet without its context")
        offset, octets, start = self._number(R2), self._number(R4), self._number(R5)
        to = self._pointer(R3)
        if not 0 < octets <= STACK_BYTES or start != 1:
            raise Fault("loads no bytes, too many, or not from the network header")
        data = self.context.network[offset : offset + octets]
        if len(data) < octets:
            data, answer = bytes(octets), -errno.EFAULT
        else:
            answer = 0
        for number, byte in enumerate(data):
            to.region.write(to.offset + number, 1, byte)
        return answer

    def output(self) -> Value:
        """bpf_ringbuf_output: 0, or -EAGAIN when there is no more room."""
        ring = self._map(R1)
        octets = self._number(R3)
        if ring.kind is not MapKind.RING:
            raise Fault("puts a record into something that is not a ring buffer")
        record = self._taken(R2, octets)
        if sum(len(one) + 8 for one in ring.records) + octets + 8 > ring.entries:
            return -errno.EAGAIN
        ring.records.append(record)
        return 0


_HELPERS: dict[Helper, Callable[[_Run], Value]] = {
    Helper.MAP_LOOKUP_ELEM: _Run.lookup,
    Helper.MAP_UPDATE_ELEM: _Run.update,
    Helper.MAP_DELETE_ELEM: _Run.delete,
    Helper.SK_SELECT_REUSEPORT: _Run.select,
    Helper.GET_SOCKET_COOKIE: _Run.cookie,
    Helper.SKB_LOAD_BYTES_RELATIVE: _Run.load_bytes,
    Helper.RINGBUF_OUTPUT: _Run.output,
    Helper.KTIME_GET_NS: lambda run: run.machine.clock(),
    Helper.GET_PRANDOM_U32: lambda run: run.machine.chance() & _HALF,
    Helper.GET_SMP_PROCESSOR_ID: lambda run: run.machine.cpu,
}


def _op(one: Instruction) -> int:
    return one.opcode & insn.OP_MASK


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _moved(op: Alu, left: Value, right: Value) -> Pointer:
    """A pointer with a number added or taken away."""
    if op is Alu.ADD and isinstance(left, int) and isinstance(right, Pointer):
        left, right = right, left
    if isinstance(left, Pointer) and isinstance(right, int):
        if op is Alu.ADD:
            return left.moved(right)
        if op is Alu.SUB:
            return left.moved(-right & WORD)
    raise Fault(f"calculates {op.name} with a pointer")


def _plain(op: Alu, left: int, right: int, bits: int) -> int:
    """Two numbers, as 32 or 64 bits."""
    mask = (1 << bits) - 1
    left, right = left & mask, right & mask
    count = right & bits - 1
    match op:
        case Alu.ADD:
            done = left + right
        case Alu.SUB:
            done = left - right
        case Alu.MUL:
            done = left * right
        case Alu.DIV:
            done = left // right if right else 0
        case Alu.MOD:
            done = left % right if right else left
        case Alu.OR:
            done = left | right
        case Alu.AND:
            done = left & right
        case Alu.XOR:
            done = left ^ right
        case Alu.LSH:
            done = left << count
        case Alu.RSH:
            done = left >> count
        case Alu.ARSH:
            done = _signed(left, bits) >> count
        case _:
            done = -left
    return done & mask


def compared(when: Jump, left: int, right: int, bits: int) -> bool:
    """Whether a jump is taken, of two numbers seen as so many bits."""
    mask = (1 << bits) - 1
    left, right = left & mask, right & mask
    if when in {Jump.SGT, Jump.SGE, Jump.SLT, Jump.SLE}:
        left, right = _signed(left, bits), _signed(right, bits)
    match when:
        case Jump.EQ:
            return left == right
        case Jump.NE:
            return left != right
        case Jump.GT | Jump.SGT:
            return left > right
        case Jump.GE | Jump.SGE:
            return left >= right
        case Jump.LT | Jump.SLT:
            return left < right
        case Jump.LE | Jump.SLE:
            return left <= right
        case _:
            return bool(left & right)
