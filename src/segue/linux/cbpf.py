"""Classic BPF: instructions, a small assembler, and the socket options that attach a program.

What may be attached (net/core/filter.c): a program that picks the member of a reuseport group for
a new connection, by its index, which needs no privilege, and a filter that drops what reaches one
socket.  The machine has an accumulator A, an index register X, sixteen words of scratch memory, and
jumps forward only.  A load outside the packet ends the program with the answer 0.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from segue.errors import KernelError, UsageError

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_GET_FILTER = 26  # the number of SO_ATTACH_FILTER, asked instead of set
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68

# Loads at offsets from here on read something else than the packet's payload.
_AD_OFF = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows of the packet
_NET_OFF = 0xFFF00000  # SKF_NET_OFF: from the network header on

_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_ABS, _IND, _MEM, _MSH = 0x20, 0x40, 0x60, 0xA0
_K, _X = 0x00, 0x08
_SCRATCH_WORDS = 16  # BPF_MEMWORDS
_FARTHEST = 255  # a conditional jump's distance has eight bits
LONGEST = 4096  # BPF_MAXINSNS

_FILTER = struct.Struct("=HBBI")  # mirrors struct sock_filter
_PROGRAM = struct.Struct("@HP")  # mirrors struct sock_fprog

_libc = ctypes.CDLL(None, use_errno=True)


class Width(IntEnum):
    """How much a packet load reads; in network order, extended with zeros."""

    U32 = 0x00
    U16 = 0x08
    U8 = 0x10


class Alu(IntEnum):
    """What arithmetic does to A, on 32 bits."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    MOD = 0x90
    XOR = 0xA0


class Test(IntEnum):
    """How a conditional jump compares A, unsigned."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    EQ = 0x10
    GT = 0x20
    GE = 0x30
    SET = 0x40  # any common bit


class Ancillary(IntEnum):
    """What the kernel knows of the packet (SKF_AD_*)."""

    PROTOCOL = 0
    RXHASH = 32  # the flow hash of device or sender; 0 when nobody computed one
    CPU = 36
    RANDOM = 56


@dataclass(frozen=True, slots=True)
class Instruction:
    """One ``struct sock_filter``: eight bytes, in the host's byte order."""

    code: int
    k: int = 0
    jt: int = 0
    jf: int = 0

    def encode(self) -> bytes:
        """Its bytes.  Raises UsageError when ``k`` is no 32-bit number."""
        if not 0 <= self.k < 1 << 32:
            raise UsageError(f"an instruction's constant must fit in 32 bits (got {self.k:#x})")
        return _FILTER.pack(self.code, self.jt, self.jf, self.k)


@dataclass(frozen=True, slots=True)
class Label:
    """A name for the place of the next instruction."""

    name: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A jump whose distances are not counted yet; an empty name is the next instruction."""

    instruction: Instruction
    then: str
    otherwise: str = ""


Item = Instruction | Branch | Label


def load(offset: int, width: Width = Width.U32) -> Instruction:
    """``A`` = the payload there; a SYN has none."""
    return Instruction(_LD | width | _ABS, offset)


def load_network(offset: int, width: Width = Width.U32) -> Instruction:
    """``A`` = the packet there, counted from its network header."""
    return Instruction(_LD | width | _ABS, _NET_OFF + offset)


def load_network_at_x(offset: int, width: Width = Width.U32) -> Instruction:
    """``A`` = the packet at X + offset, counted from its network header."""
    return Instruction(_LD | width | _IND, _NET_OFF + offset)


def load_ancillary(what: Ancillary) -> Instruction:
    """``A`` = what the kernel knows of the packet."""
    return Instruction(_LD | Width.U32 | _ABS, _AD_OFF + what)


def load_scratch(word: int) -> Instruction:
    """``A = M[word]``; the kernel refuses a program that did not store it first."""
    return Instruction(_LD | _MEM, _scratch(word))


def store_scratch(word: int) -> Instruction:
    """``M[word] = A``."""
    return Instruction(_ST, _scratch(word))


def x_from_ip_header_length() -> Instruction:
    """``X`` = length in bytes of the IPv4 header, options and all."""
    return Instruction(_LDX | Width.U8 | _MSH, _NET_OFF)


def x_from_a() -> Instruction:
    """``X = A``."""
    return Instruction(_MISC)


def alu_imm(op: Alu, value: int) -> Instruction:
    """``A = A op value``."""
    return Instruction(_ALU | op | _K, value)


def alu_x(op: Alu) -> Instruction:
    """``A = A op X``."""
    return Instruction(_ALU | op | _X)


def jump(target: str) -> Branch:
    """Go there; the distance has 32 bits."""
    return Branch(Instruction(_JMP), target)


def jump_if(test: Test, value: int, then: str = "", otherwise: str = "") -> Branch:
    """Go to one label when A compares so with the number, to the other when not."""
    return Branch(Instruction(_JMP | test | _K, value), then, otherwise)


def jump_if_x(test: Test, then: str = "", otherwise: str = "") -> Branch:
    """Go to one label when A compares so with X, to the other when not."""
    return Branch(Instruction(_JMP | test | _X), then, otherwise)


def answer(value: int) -> Instruction:
    """End the program with this number."""
    return Instruction(_RET | _K, value)


def _scratch(word: int) -> int:
    if not 0 <= word < _SCRATCH_WORDS:
        raise UsageError(
            f"a word of scratch memory must be between 0 and {_SCRATCH_WORDS - 1} (got {word})"
        )
    return word


def assemble(items: Iterable[Item]) -> list[Instruction]:
    """The program, every branch with its distances.

    Raises UsageError, naming the label, when one is unknown, stands twice, lies behind a jump to
    it, or is farther than 255 instructions from a conditional one; and when the program is empty
    or longer than LONGEST.
    """
    written = list(items)
    places: dict[str, int] = {}
    place = 0
    for item in written:
        if isinstance(item, Label):
            if item.name in places:
                raise UsageError(f"label {item.name!r} stands twice")
            places[item.name] = place
        else:
            place += 1
    if not 0 < place <= LONGEST:
        raise UsageError(f"a program must have between 1 and {LONGEST} instructions (got {place})")
    program: list[Instruction] = []
    for item in written:
        if isinstance(item, Instruction):
            program.append(item)
        elif isinstance(item, Branch):
            program.append(_resolved(item, len(program), places))
    return program


def _resolved(branch: Branch, place: int, places: dict[str, int]) -> Instruction:
    then = _distance(branch.then, place, places)
    if branch.instruction.code == _JMP:
        return replace(branch.instruction, k=then)
    otherwise = _distance(branch.otherwise, place, places)
    if max(then, otherwise) > _FARTHEST:
        raise UsageError(
            f"instruction {place} jumps {max(then, otherwise)} instructions ahead;"
            f" a conditional jump reaches {_FARTHEST}"
        )
    return replace(branch.instruction, jt=then, jf=otherwise)


def _distance(target: str, place: int, places: dict[str, int]) -> int:
    if not target:
        return 0
    if target not in places:
        raise UsageError(f"no label {target!r} (there are: {', '.join(sorted(places)) or 'none'})")
    distance = places[target] - (place + 1)
    if distance < 0:
        raise UsageError(f"label {target!r} lies behind the jump at {place}: jumps go forward")
    return distance


def encode(program: Iterable[Instruction]) -> bytes:
    """The bytes of a program."""
    return b"".join(one.encode() for one in program)


def attach_reuseport(listener: socket.socket, program: Sequence[Instruction]) -> None:
    """The program picks the member of the listener's group for every new connection.

    It answers an index in order of listen(2), where removing a member moves the last one into
    the hole; an index beyond the last lets the kernel's hash decide
    (reuseport_select_sock).  It replaces the group's program at once and outlives this process;
    it has no say in migration.  Raises KernelError: EINVAL when the socket is in no group or the
    program is none that the kernel takes.
    """
    _attach(
        listener,
        _SO_ATTACH_REUSEPORT_CBPF,
        program,
        "steering a reuseport group by classic BPF",
    )


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """The program answers how many bytes of each packet for this socket are kept; 0 drops it.

    A listener's filter sees SYNs and final ACKs, and a child inherits it.  Raises KernelError:
    EPERM for a TCP socket without CAP_NET_ADMIN (measured on Linux 6.18; older kernels let
    everybody), and when the filter is locked (SO_LOCK_FILTER).
    """
    _attach(sock, _SO_ATTACH_FILTER, program, "attaching a socket filter")


def detach_filter(sock: socket.socket) -> None:
    """Remove the socket's filter.  Raises KernelError: ENOENT when it has none."""
    _set(sock, _SO_DETACH_FILTER, 0, "removing a socket filter")


def filter_length(sock: socket.socket) -> int:
    """Instructions in the socket's filter; 0 when it has none.

    Raises KernelError: EACCES when the filter is an eBPF program.
    """
    # An option length of 0 asks for the count.  Python's own getsockopt cannot say 0, and the
    # kernel counts this length in instructions, not in bytes: it would write past the buffer.
    length = ctypes.c_uint32(0)
    number = sock.fileno()
    if _libc.getsockopt(number, socket.SOL_SOCKET, _SO_GET_FILTER, None, ctypes.byref(length)):
        code = ctypes.get_errno()
        raise KernelError("getsockopt", code, "looking for a socket filter", _ADVICE.get(code, ""))
    return length.value


def filter_code(sock: socket.socket) -> bytes:
    """The socket's filter as it was attached, eight bytes an instruction; b"" when it has none.

    Raises KernelError: EACCES when the filter is an eBPF program, EINVAL when a longer one took
    its place meanwhile.
    """
    count = filter_length(sock)
    if not count:
        return b""
    code = ctypes.create_string_buffer(count * _FILTER.size)
    length = ctypes.c_uint32(count)
    number = sock.fileno()
    if _libc.getsockopt(number, socket.SOL_SOCKET, _SO_GET_FILTER, code, ctypes.byref(length)):
        raise KernelError("getsockopt", ctypes.get_errno(), "reading a socket filter")
    return code.raw[: length.value * _FILTER.size]


def detach_reuseport(listener: socket.socket) -> None:
    """The kernel's hash decides again (Linux 5.3).

    Raises KernelError: ENOENT when the group has no program.
    """
    _set(listener, _SO_DETACH_REUSEPORT_BPF, 0, "removing a reuseport group's program")


_ADVICE = {
    errno.EINVAL: "the socket is in no reuseport group, or the kernel refused the program",
    errno.ENOMEM: "the program is larger than net.core.optmem_max allows",
    errno.EPERM: "a TCP socket's filter needs CAP_NET_ADMIN on newer kernels,"
    " and its owner may have locked it (SO_LOCK_FILTER)",
    errno.ENOENT: "there is none",
    errno.EACCES: "it is an eBPF program",
    errno.ENOPROTOOPT: "this kernel is too old for it",
}


def _attach(sock: socket.socket, option: int, program: Sequence[Instruction], doing: str) -> None:
    code = ctypes.create_string_buffer(encode(program), len(program) * _FILTER.size)
    _set(sock, option, _PROGRAM.pack(len(program), ctypes.addressof(code)), doing)


def _set(sock: socket.socket, option: int, value: bytes | int, doing: str) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError as error:
        code = error.errno or 0
        raise KernelError("setsockopt", code, doing, _ADVICE.get(code, "")) from error
