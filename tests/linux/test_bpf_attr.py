"""The bytes bpf(2) is asked with, field by field."""

from __future__ import annotations

import pytest

from segue.errors import UsageError
from segue.linux import bpf_attr
from segue.linux.bpf import syscall_number
from segue.linux.bpf_attr import AttachType, MapType, Update
from segue.linux.bpf_maps import cpu_count
from segue.linux.ringbuf import plausible_size


def test_map_create() -> None:
    """Type, sizes and flags in 32-bit words, the name from byte 28."""
    data = bpf_attr.map_create(MapType.REUSEPORT_SOCKARRAY, 4, 8, 1024, name="segue_sockets")
    words = [data[at : at + 4].hex() for at in range(0, 28, 4)]
    assert words == [
        "14000000",  # type 20
        "04000000",
        "08000000",
        "00040000",
        "00000000",  # flags
        "00000000",  # inner map
        "00000000",  # NUMA node
    ]
    assert data[28:] == b"segue_sockets\0\0\0"


def test_map_element() -> None:
    """Descriptor, padding to 8, the two addresses, flags."""
    data = bpf_attr.map_element(7, 0x1122334455667788, 0x10, Update.EXIST)
    assert data.hex(" ", 8) == (
        "0700000000000000 8877665544332211 1000000000000000 0200000000000000"
    )


def test_map_freeze() -> None:
    """The descriptor alone."""
    assert bpf_attr.map_descriptor(7).hex() == "07000000"


def test_prog_load_without_a_log() -> None:
    """72 bytes: the attach type is the last word, the name from byte 48."""
    data = bpf_attr.prog_load(AttachType.SELECT_OR_MIGRATE, 0x1000, 42, 0x2000, "segue")
    assert data.hex(" ", 8).split() == [
        "150000002a000000",  # SK_REUSEPORT, 42 slots
        "0010000000000000",  # instructions
        "0020000000000000",  # license
        "0000000000000000",  # log level and size
        "0000000000000000",  # log buffer
        "0000000000000000",  # kernel version, flags
        "7365677565000000",  # name
        "0000000000000000",
        "0000000028000000",  # interface, attach type 40
    ]


def test_prog_load_with_a_log() -> None:
    """Level 1, the size, the address."""
    data = bpf_attr.prog_load(AttachType.SELECT, 0x1000, 2, 0x2000, log=(0x3000, 65536))
    assert data[24:40].hex(" ", 4) == "01000000 00000100 00300000 00000000"
    assert data[-4:].hex() == "27000000"


def test_an_attach_type_has_its_kind_of_program() -> None:
    """A bind of a cgroup is not asked of a reuseport program."""
    data = bpf_attr.prog_load(AttachType.INET6_BIND, 0x1000, 2, 0x2000)
    assert data[:4].hex() == "12000000"
    assert data[-4:].hex() == "09000000"


def test_an_iterator_stands_for_a_function_of_the_kernel() -> None:
    """Its kind, and at the end the number of the function; of one process."""
    data = bpf_attr.prog_load(AttachType.ITERATOR, 0x1000, 2, 0x2000, target=0x1234)
    assert data[:4].hex() == "1a000000"
    assert data[68:72].hex() == "1c000000"
    assert (len(data), data[108:].hex()) == (112, "34120000")
    assert bpf_attr.iterator_info(7).hex(" ", 4) == "00000000 07000000 00000000 00000000"
    link = bpf_attr.link_iterator(5, 0x1000, 16)
    assert link.hex(" ", 4) == "05000000 00000000 1c000000 00000000 00100000 00000000 10000000"
    assert bpf_attr.iter_create(6).hex(" ", 4) == "06000000 00000000"


def test_attaching_to_a_cgroup() -> None:
    """The cgroup's descriptor, the program's, the type, BPF_F_ALLOW_MULTI."""
    data = bpf_attr.prog_attach(5, 6, AttachType.INET4_BIND)
    assert data.hex(" ", 4) == "05000000 06000000 08000000 02000000"


def test_asking_a_cgroup_for_its_programs() -> None:
    """64 bytes, the last of which the kernel writes to; the count comes back in the seventh."""
    data = bpf_attr.prog_query(5, AttachType.INET6_BIND)
    assert (len(data), data[:8].hex(" ", 4)) == (64, "05000000 09000000")
    assert not any(data[8:])
    assert bpf_attr.decode_count(data[:24] + bytes([3, 0, 0, 0]) + data[28:]) == 3


def test_pins_and_info() -> None:
    """The path's address comes first in one, the descriptor in the other."""
    assert bpf_attr.obj_path(0x1000, 5).hex(" ", 4) == "00100000 00000000 05000000 00000000"
    assert bpf_attr.obj_info(5, 80, 0x1000).hex(" ", 4) == "05000000 50000000 00100000 00000000"


@pytest.mark.parametrize("name", ["sixteen_letters_", "with space", "dash-ed", "ü"])
def test_a_name_the_kernel_would_refuse_is_refused_here(name: str) -> None:
    """At most 15 of letters, digits, underscore and dot: with a sentence instead of EINVAL."""
    with pytest.raises(UsageError, match="cannot be a map's or program's name"):
        bpf_attr.object_name(name)


@pytest.mark.parametrize(
    ("machine", "number"), [("x86_64", 321), ("aarch64", 280), ("riscv64", 280), ("ppc64le", 361)]
)
def test_the_number_of_the_system_call(machine: str, number: int) -> None:
    """By architecture; the generic table where there is none of its own."""
    assert syscall_number(machine) == number


@pytest.mark.parametrize(("listed", "count"), [("0\n", 1), ("0-3\n", 4), ("0-1,4-5,7", 5)])
def test_a_list_of_cpus_is_counted(listed: str, count: int) -> None:
    """In the notation of /sys/devices/system/cpu/possible."""
    assert cpu_count(listed) == count


@pytest.mark.parametrize(
    ("size", "whole"), [(0, 4096), (4096, 4096), (4097, 8192), (1 << 20, 1 << 20)]
)
def test_a_ring_buffer_is_a_power_of_two_of_pages(size: int, whole: int) -> None:
    """Rounded up, as the kernel refuses the rest."""
    assert plausible_size(size) == whole


def test_link_create() -> None:
    """Program, interface, where, flags."""
    data = bpf_attr.link_create(5, 2, AttachType.TCX_INGRESS)
    assert data.hex(" ", 4) == "05000000 02000000 2e000000 08000000"


def test_prog_test_run() -> None:
    """Program, verdict, sizes, addresses, once; the verdict is read where it stands."""
    data = bpf_attr.prog_test_run(5, 0x1122334455667788, 64)
    assert data.hex(" ", 8) == (
        "0500000000000000 4000000040000000 8877665544332211 8877665544332211 0100000000000000"
    )
    assert bpf_attr.decode_verdict(data[:4] + b"\x07\0\0\0" + data[8:]) == 7


@pytest.mark.parametrize(
    ("attach_type", "kind"),
    [
        (AttachType.SOCKET, 1),
        (AttachType.TCX_INGRESS, 3),
        (AttachType.INET4_BIND, 18),
        (AttachType.INET6_BIND, 18),
        (AttachType.SELECT, 21),
        (AttachType.SELECT_OR_MIGRATE, 21),
    ],
)
def test_a_way_to_attach_says_the_kind_of_program(attach_type: AttachType, kind: int) -> None:
    """BPF_PROG_TYPE_ of include/uapi/linux/bpf.h."""
    assert attach_type.program_type == kind
