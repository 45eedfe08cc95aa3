"""What bpf(2) is asked with: its commands, types and the bytes of ``union bpf_attr``.

Pure: an address or a descriptor is a number here, so that the bytes can be compared.  The kernel
takes what is left off the end as zero (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import re
import struct
from enum import IntEnum

from segue.errors import UsageError

# Names are 16 bytes with their closing zero; the kernel refuses other characters with EINVAL.
_BPF_F_BEFORE = 1 << 3
_NAME = re.compile(r"[A-Za-z0-9_.]{0,15}")


class BpfCommand(IntEnum):
    """First argument of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_TEST_RUN = 10
    PROG_GET_FD_BY_ID = 13
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    MAP_FREEZE = 22
    LINK_CREATE = 28
    ITER_CREATE = 33


class MapType(IntEnum):
    """The kinds of map that Segue makes, for its own programs and for those of object files."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    REUSEPORT_SOCKARRAY = 20
    RINGBUF = 27

    @property
    def per_cpu(self) -> bool:
        """An element has a value for each possible CPU."""
        return self in {MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH}


class MapFlag(IntEnum):
    """How a map is made."""

    RDONLY_PROG = 1 << 7  # programs only read it
    MMAPABLE = 1 << 10  # an ARRAY whose values user space maps into its memory (Linux 5.5)


PROG_TYPE_SOCKET_FILTER = 1
PROG_TYPE_SCHED_CLS = 3
PROG_TYPE_CGROUP_SOCK_ADDR = 18
PROG_TYPE_SK_REUSEPORT = 21
PROG_TYPE_TRACING = 26


class AttachType(IntEnum):
    """What a program is asked about: a socket's packets, at a cgroup's bind(2), of a reuseport
    group, what comes in at an interface or goes out there, or each thing that the kernel goes
    through for a reader.
    """

    SOCKET = 0  # SO_ATTACH_BPF; kinds of program without such types have 0 there
    INET4_BIND = 8
    INET6_BIND = 9
    ITERATOR = 28  # Linux 5.8
    SELECT = 39  # new connections
    SELECT_OR_MIGRATE = 40  # those and, from Linux 5.14, the ones that migrate
    TCX_INGRESS = 46  # Linux 6.6
    TCX_EGRESS = 47

    @property
    def program_type(self) -> int:
        """The only kind of program that can be asked."""
        return _PROGRAM_TYPES.get(self, PROG_TYPE_SK_REUSEPORT)


_PROGRAM_TYPES = {
    AttachType.SOCKET: PROG_TYPE_SOCKET_FILTER,
    AttachType.INET4_BIND: PROG_TYPE_CGROUP_SOCK_ADDR,
    AttachType.INET6_BIND: PROG_TYPE_CGROUP_SOCK_ADDR,
    AttachType.TCX_INGRESS: PROG_TYPE_SCHED_CLS,
    AttachType.ITERATOR: PROG_TYPE_TRACING,
    AttachType.TCX_EGRESS: PROG_TYPE_SCHED_CLS,
}


ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI: beside programs of others, above and below


class Update(IntEnum):
    """What an update may find."""

    ANY = 0
    NOEXIST = 1  # EEXIST when the key is there
    EXIST = 2  # ENOENT when it is not


def object_name(name: str) -> bytes:
    """A map's or program's name as the kernel has it.  Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a map's or program's name: it has at most 15 of A-Z a-z 0-9 _ ."
        )
    return name.encode()


def map_create(
    kind: MapType, key_size: int, value_size: int, entries: int, flags: int = 0, name: str = ""
) -> bytes:
    """Attributes of MAP_CREATE."""
    numbers = (kind, key_size, value_size, entries, flags, 0, 0)
    return struct.pack("=7I16s", *numbers, object_name(name))


def map_element(descriptor: int, key: int, value: int = 0, flags: int = 0) -> bytes:
    """Attributes of MAP_*_ELEM and MAP_GET_NEXT_KEY; key and value are addresses."""
    return struct.pack("=i4xQQQ", descriptor, key, value, flags)


def map_descriptor(descriptor: int) -> bytes:
    """Attributes of MAP_FREEZE."""
    return struct.pack("=i", descriptor)


def prog_load(
    attach_type: AttachType,
    instructions: int,
    slots: int,
    license_text: int,
    name: str = "",
    log: tuple[int, int] | None = None,
    target: int = 0,
) -> bytes:
    """Attributes of PROG_LOAD for a program that is attached so.

    ``instructions`` and ``license_text`` are addresses, ``log`` the address and size of a buffer
    for the verifier's words, at level 1.  ``target`` is the number of the kernel's function at
    which the program is run, where it is one of the kernel's own.
    """
    address, size = log or (0, 0)
    at_function = struct.pack("=IIQIIQII", 0, 0, 0, 0, 0, 0, 0, target) if target else b""
    common = struct.pack(
        "=IIQQIIQII16sII",
        attach_type.program_type,
        slots,
        instructions,
        license_text,
        1 if log else 0,
        size,
        address,
        0,  # kernel version: only looked at for kprobes, long ago
        0,  # flags
        object_name(name),
        0,  # interface
        attach_type,
    )
    return common + at_function


def prog_attach(
    target: int, program: int, attach_type: AttachType, flags: int = ALLOW_MULTI
) -> bytes:
    """Attributes of PROG_ATTACH; ``target`` is a cgroup's descriptor."""
    return struct.pack("=IIII", target, program, attach_type, flags)


def prog_query(target: int, attach_type: AttachType) -> bytes:
    """Attributes of PROG_QUERY that ask for no more than the count.

    As long as the kernel knows them: it writes answers into them up to the last field.
    """
    return struct.pack("=IIIIQIxxxxQQQQ", target, attach_type, 0, 0, 0, 0, 0, 0, 0, 0)


def decode_count(answered: bytes) -> int:
    """The count of programs in what PROG_QUERY has answered."""
    count: int = struct.unpack_from("=I", answered, 24)[0]
    return count


def obj_path(path: int, descriptor: int = 0) -> bytes:
    """Attributes of OBJ_PIN and OBJ_GET; ``path`` is the address of its bytes."""
    return struct.pack("=QiI", path, descriptor, 0)


def by_id(number: int) -> bytes:
    """Attributes of PROG_GET_FD_BY_ID."""
    return struct.pack("=III", number, 0, 0)


def obj_info(descriptor: int, size: int, info: int) -> bytes:
    """Attributes of OBJ_GET_INFO_BY_FD; ``info`` is the address of ``size`` bytes."""
    return struct.pack("=iIQ", descriptor, size, info)


def link_create(program: int, interface: int, attach_type: AttachType) -> bytes:
    """Attributes of LINK_CREATE for an interface, by its index: before all that is there."""
    return struct.pack("=IIII", program, interface, attach_type, _BPF_F_BEFORE)


def iterator_info(process: int) -> bytes:
    """Of LINK_CREATE for an iterator: of this process alone (union bpf_iter_link_info)."""
    return struct.pack("=IIII", 0, process, 0, 0)


def link_iterator(program: int, info: int, size: int) -> bytes:
    """Attributes of LINK_CREATE for an iterator; ``info`` is the address of ``size`` bytes."""
    return struct.pack("=IIIIQI", program, 0, AttachType.ITERATOR, 0, info, size)


def iter_create(link: int) -> bytes:
    """Attributes of ITER_CREATE."""
    return struct.pack("=II", link, 0)


def prog_test_run(program: int, packet: int, size: int) -> bytes:
    """Attributes of PROG_TEST_RUN, once; ``packet`` is the address of ``size`` bytes, and there
    the kernel puts it afterwards.
    """
    return struct.pack("=IIIIQQII", program, 0, size, size, packet, packet, 1, 0)


def decode_verdict(answered: bytes) -> int:
    """What the program returned, in what PROG_TEST_RUN has answered."""
    verdict: int = struct.unpack_from("=I", answered, 4)[0]
    return verdict
