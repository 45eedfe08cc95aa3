"""Classifiers at an interface (TCX, Linux 6.6), run by hand or by what comes in or goes out.

A link goes with its last descriptor, so a classifier goes when its process dies.  Needs CAP_BPF and
CAP_NET_ADMIN.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct

from segue.errors import KernelError, NotSupported
from segue.linux import bpf_attr
from segue.linux.bpf import Descriptor, Program, address, answered, refused
from segue.linux.bpf_attr import AttachType, BpfCommand

_SIOCGIFHWADDR = 0x8927
# Bytes before the packet, by ARPHRD_: ETHER and LOOPBACK; NONE (TUN, WireGuard) and PPP.
_HEADERS = {1: 14, 772: 14, 0xFFFE: 0, 512: 0}


def interfaces() -> dict[int, int]:
    """The interfaces of this network namespace: by how many bytes of a link header a classifier
    there sees an IP packet preceded.  Those of other kinds are left out.
    """
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        for index, name in socket.if_nameindex():
            request = struct.pack("16s24x", name.encode())
            try:
                answer = fcntl.ioctl(control, _SIOCGIFHWADDR, request)
            except OSError:
                continue  # gone meanwhile
            kind = struct.unpack_from("=H", answer, 16)[0]
            if kind in _HEADERS:
                found[index] = _HEADERS[kind]
    return found


def attach(
    program: Program, interface: int, where: AttachType = AttachType.TCX_INGRESS
) -> Descriptor:
    """The program sees what comes in at the interface, or with TCX_EGRESS what goes out, before
    those that are there already.

    Behind one that passes a packet (TCX_PASS, as TC_ACT_OK) it would not see that packet.
    It is there until the link that is returned is closed.  Raises NotSupported before Linux 6.6,
    KernelError.
    """
    attributes = bpf_attr.link_create(program.fileno(), interface, where)
    result, _ = answered(BpfCommand.LINK_CREATE, attributes)
    if result == -errno.EINVAL:
        raise NotSupported("a classifier by link", "Linux 6.6 or later (TCX)", "an older one")
    if result < 0:
        doing = f"attaching a classifier to interface {interface}"
        raise refused(BpfCommand.LINK_CREATE, -result, doing)
    return Descriptor(result)


def run(program: Program, packet: bytearray) -> int:
    """Run a classifier once in this network namespace, over a packet; its verdict.

    What it has written into the packet is there afterwards.  Raises KernelError.
    """
    where = (ctypes.c_char * len(packet)).from_buffer(packet)
    attributes = bpf_attr.prog_test_run(program.fileno(), address(where), len(packet))
    result, answer = answered(BpfCommand.PROG_TEST_RUN, attributes)
    if result < 0:
        raise KernelError("bpf(BPF_PROG_TEST_RUN)", -result, "running a program")
    return bpf_attr.decode_verdict(answer)
