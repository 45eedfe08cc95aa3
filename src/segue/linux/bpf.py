"""bpf(2): programs loaded, attached to a reuseport group or to a cgroup's bind(2), and pinned.

Maps are in ``bpf_maps``, ring buffers in ``ringbuf``, the bytes of a call in ``bpf_attr``.
What is for a reuseport group needs CAP_BPF and nothing more, what is for a cgroup or an interface
CAP_NET_ADMIN too; using a pinned object needs only its file mode (measured on 6.18).  Every
descriptor made here closes on exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from segue.bpf.disasm import disassemble
from segue.bpf.insn import SLOT_BYTES, Instruction, encode
from segue.errors import KernelError, NotSupported, VerifierError
from segue.linux import bpf_attr, capability, memlock
from segue.linux.bpf_attr import AttachType, BpfCommand
from segue.linux.closing import Closing

# bpf(2) has no wrapper in libc.  280 is the number in the generic table, which every architecture
# since 2012 uses (arm64, riscv64, loongarch64).
_NUMBERS = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361}
_GENERIC = 280


_SO_ATTACH_REUSEPORT_EBPF = 52
_SO_DETACH_REUSEPORT_BPF = 68

# The verifier's log starts with what our programs need and grows up to the most that every
# kernel accepts (UINT_MAX >> 8 before 5.16).
_FIRST_LOG = 1 << 16
_LAST_LOG = (1 << 24) - 1
# The verifier gives up with EAGAIN when a signal waits; libbpf tries as often.
_ATTEMPTS = 5

_MAKING = {BpfCommand.MAP_CREATE, BpfCommand.PROG_LOAD}
_PERMISSION = "it needs CAP_BPF, or root"
_MEMORY = (
    "it needs CAP_BPF outside of a user namespace and, before Linux 5.11, a higher RLIMIT_MEMLOCK"
    " (LimitMEMLOCK=infinity, ulimit -l unlimited)"
)
_NET_PERMISSION = "it needs CAP_BPF and CAP_NET_ADMIN, or root"
_TRACE_PERMISSION = "it needs CAP_BPF and CAP_PERFMON, or root"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.setsockopt.argtypes = [
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint32,
]


@cache
def syscall_number(machine: str = "") -> int:
    """The number of bpf(2) on this architecture, or on the one named as uname(2) names it."""
    return _NUMBERS.get(machine or platform.machine(), _GENERIC)


def address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Where the kernel finds these bytes; good for as long as the buffer is kept."""
    return ctypes.addressof(buffer)


def command(which: BpfCommand, attributes: bytes) -> int:
    """One bpf(2) call: its result, or -errno.  What the call means is the caller's to say."""
    return answered(which, attributes)[0]


def answered(which: BpfCommand, attributes: bytes) -> tuple[int, bytes]:
    """The same for a command that answers in its attributes, which follow."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _command(which, buffer), buffer.raw


def _command(which: BpfCommand, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(
        ctypes.c_long(syscall_number()),
        ctypes.c_int(which),
        ctypes.c_void_p(address(attributes)),
        ctypes.c_uint(len(attributes)),
    )
    return -ctypes.get_errno() if result < 0 else result


def making(which: BpfCommand, attributes: bytes) -> int:
    """The same for a command that makes a map or a program, whose memory may have a limit.

    Before Linux 5.11 it counts against RLIMIT_MEMLOCK, which is lifted for the call if that may be.
    """
    result = command(which, attributes)
    if result == -errno.EPERM:
        with memlock.lifted():
            result = command(which, attributes)
    return result


def require(which: BpfCommand, attributes: bytes, doing: str, advice: str = "") -> int:
    """The same, but the kernel's no is a KernelError."""
    result = (
        making(which, attributes) if which is BpfCommand.MAP_CREATE else command(which, attributes)
    )
    if result < 0:
        raise refused(which, -result, doing, advice)
    return result


def refused(which: BpfCommand, number: int, doing: str, advice: str = "") -> KernelError:
    """The kernel's no to this command, with the usual advice when it is about permission."""
    if number in {errno.EPERM, errno.EACCES} and not advice:
        permitted = capability.mine().effective & capability.bits(("bpf", "sys_admin"))
        advice = _MEMORY if permitted and which in _MAKING else _PERMISSION
    return KernelError(f"bpf(BPF_{which.name})", number, doing, advice)


class Descriptor(Closing):
    """A bpf object's descriptor with its owner; closing twice is no error."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""
        return self._fd

    def pin(self, path: str) -> None:
        """Give the object a name in a mounted bpf file system; it then outlives its processes.

        Raises KernelError: EEXIST when the path is taken, EPERM when it is in no bpf file system.
        """
        where = ctypes.create_string_buffer(os.fsencode(path))
        require(
            BpfCommand.OBJ_PIN,
            bpf_attr.obj_path(address(where), self._fd),
            f"pinning to {path}",
            "pins live in a file system of type bpf, usually /sys/fs/bpf",
        )

    def close(self) -> None:
        """Close the descriptor; what is attached or pinned lives on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def obj_get(path: str, known: str = "") -> int:
    """A new descriptor of a pinned object, which the caller owns.

    ``known`` is what people call the path, for a KernelError, which it raises.
    """
    where = ctypes.create_string_buffer(os.fsencode(path))
    doing = f"opening the pin {known or path}"
    return require(BpfCommand.OBJ_GET, bpf_attr.obj_path(address(where)), doing)


def obj_info(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes of a map's or program's info, as far as this kernel fills them."""
    buffer = ctypes.create_string_buffer(size)
    attributes = bpf_attr.obj_info(descriptor, size, address(buffer))
    require(BpfCommand.OBJ_GET_INFO_BY_FD, attributes, "asking what a bpf object is")
    return buffer.raw


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel says of a loaded program (struct bpf_prog_info)."""

    kind: int  # PROG_TYPE_SK_REUSEPORT
    id: int  # unique while the program lives; what bpftool shows
    verified: int  # instructions the verifier looked at over all paths; 0 before Linux 5.16
    tag: str  # a hash of its instructions, 16 hexadecimal digits
    name: str


class Program(Descriptor):
    """A loaded program; it lives as long as this, a pin, or a group it is attached to."""

    @classmethod
    def load(
        cls,
        instructions: Sequence[Instruction],
        *,
        name: str = "",
        attach_type: AttachType = AttachType.SELECT_OR_MIGRATE,
        license_text: str = "Apache-2.0",
        maps: Mapping[int, str] | None = None,
        target: int = 0,
    ) -> Program:
        """Have the verifier read a program; ``attach_type`` says of which kind it is.

        ``target`` is the number of the kernel's function that stands for an iterator.

        Raises VerifierError, with its whole log and our listing (``maps`` names the descriptors
        in it), when it refuses the program; KernelError when it did not come to that: EPERM
        without CAP_BPF, or CAP_NET_ADMIN where that is needed too, EINVAL for SELECT_OR_MIGRATE
        before 5.14; NotSupported on a big-endian machine.
        """
        if sys.byteorder != "little":
            raise NotSupported("loading programs", "a little-endian machine", sys.byteorder)
        code = encode(instructions)
        loading = _Loading(code, license_text, attach_type, name, target)
        doing = f"loading the program {name}".rstrip()
        # Without a log first: writing it costs more than verifying.
        result, log = loading.attempt(0)
        size = _FIRST_LOG
        while result < 0:
            result, log = loading.attempt(size)
            if result != -errno.ENOSPC or size == _LAST_LOG:
                break
            size = min(size * 8, _LAST_LOG)
        if result >= 0:
            return cls(result)
        if not log:
            raise refused(BpfCommand.PROG_LOAD, -result, doing, _needs(attach_type, -result))
        raise VerifierError(-result, doing, log, disassemble(instructions, maps))

    @classmethod
    def get(cls, path: str) -> Program:
        """Open a pinned program.  Raises KernelError."""
        return cls(obj_get(path))

    def info(self) -> ProgramInfo:
        """What the kernel says of it.  Raises KernelError."""
        data = obj_info(self._fd, 220)
        kind, number, tag, name = struct.unpack_from("=II8s48x16s", data)
        (verified,) = struct.unpack_from("=I", data, 216)
        return ProgramInfo(kind, number, verified, tag.hex(), name.rstrip(b"\0").decode())


def program_name(number: int) -> str:
    """The name of the program with this number; "" when it is gone, or without CAP_SYS_ADMIN."""
    descriptor = command(BpfCommand.PROG_GET_FD_BY_ID, bpf_attr.by_id(number))
    if descriptor < 0:
        return ""
    with Program(descriptor) as program:
        return program.info().name


@dataclass(frozen=True, slots=True)
class _Loading:
    code: bytes
    license_text: str
    attach_type: AttachType
    name: str
    target: int

    def attempt(self, log_size: int) -> tuple[int, str]:
        """A descriptor or -errno, and what the verifier said, for which size 0 leaves no room."""
        code = ctypes.create_string_buffer(self.code, len(self.code))
        license_text = ctypes.create_string_buffer(self.license_text.encode())
        log = ctypes.create_string_buffer(log_size)
        attributes = bpf_attr.prog_load(
            self.attach_type,
            address(code),
            len(self.code) // SLOT_BYTES,
            address(license_text),
            self.name,
            (address(log), log_size) if log_size else None,
            self.target,
        )
        result = -errno.EAGAIN
        for _ in range(_ATTEMPTS):
            result = making(BpfCommand.PROG_LOAD, attributes)
            if result != -errno.EAGAIN:
                break
        return result, log.raw.partition(b"\0")[0].decode(errors="replace")


def attach_reuseport(listener: int, program: int) -> None:
    """The program decides for the listener's whole group, also for members that come later.

    It stays when the process that attached it is gone, and goes with the last member.  Raises
    KernelError: EINVAL when the socket has no SO_REUSEPORT.  Attach through a socket that is
    already listening: through one that is only bound, beside a listening member, it takes no
    effect and that socket can never listen (measured on 6.18).
    """
    value = ctypes.c_int(program)
    _setsockopt(
        listener,
        _SO_ATTACH_REUSEPORT_EBPF,
        value,
        "setsockopt(SO_ATTACH_REUSEPORT_EBPF)",
        "attaching a program to a reuseport group",
    )


def detach_reuseport(listener: int) -> None:
    """The kernel's own hash decides for the group again.  Raises KernelError: ENOENT when none
    is attached.
    """
    _setsockopt(
        listener,
        _SO_DETACH_REUSEPORT_BPF,
        ctypes.c_int(0),
        "setsockopt(SO_DETACH_REUSEPORT_BPF)",
        "detaching the program of a reuseport group",
    )


def attach_cgroup(cgroup: int, program: int, attach_type: AttachType) -> None:
    """The program is asked at every bind(2) of the processes in the cgroup and below it.

    ``cgroup`` is a descriptor of its directory.  Programs of others are asked too; this one goes
    with the cgroup, not with this process.  Raises KernelError: EPERM without CAP_NET_ADMIN, or
    where a cgroup above forbids it.
    """
    attributes = bpf_attr.prog_attach(cgroup, program, attach_type)
    doing = f"attaching a program to a cgroup as {attach_type.name}"
    result = command(BpfCommand.PROG_ATTACH, attributes)
    if result < 0:
        raise refused(BpfCommand.PROG_ATTACH, -result, doing, _needs(attach_type, -result))


def attached_to_cgroup(cgroup: int, attach_type: AttachType) -> int:
    """How many programs are attached so to this very cgroup.  Raises KernelError."""
    attributes = bpf_attr.prog_query(cgroup, attach_type)
    result, answer = answered(BpfCommand.PROG_QUERY, attributes)
    if result < 0:
        doing = f"looking for programs of a cgroup ({attach_type.name})"
        raise refused(BpfCommand.PROG_QUERY, -result, doing, _needs(attach_type, -result))
    return bpf_attr.decode_count(answer)


def _needs(attach_type: AttachType, number: int) -> str:
    if attach_type is AttachType.SELECT_OR_MIGRATE and number == errno.EINVAL:
        return "a program that is asked about migration needs Linux 5.14"
    if number not in {errno.EPERM, errno.EACCES}:
        return ""
    return {
        bpf_attr.PROG_TYPE_CGROUP_SOCK_ADDR: _NET_PERMISSION,
        bpf_attr.PROG_TYPE_SCHED_CLS: _NET_PERMISSION,
        bpf_attr.PROG_TYPE_TRACING: _TRACE_PERMISSION,
    }.get(attach_type.program_type, "")


def _setsockopt(listener: int, option: int, value: ctypes.c_int, call: str, doing: str) -> None:
    size = ctypes.sizeof(value)
    if _libc.setsockopt(listener, socket.SOL_SOCKET, option, ctypes.addressof(value), size) != 0:
        raise KernelError(call, ctypes.get_errno(), doing)
