"""A capture file that Wireshark and tcpdump open (draft-ietf-opsawg-pcap; nanoseconds).

Raw IP packets without a link's header (LINKTYPE_RAW), so IPv4 and IPv6 may stand side by side.
"""

from __future__ import annotations

import struct

_MAGIC_NANOSECONDS = 0xA1B23C4D
_LINKTYPE_RAW = 101
_LONGEST = 65535
_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")


def header() -> bytes:
    """What the file begins with."""
    return _HEADER.pack(_MAGIC_NANOSECONDS, 2, 4, 0, 0, _LONGEST, _LINKTYPE_RAW)


def record(at_ns: int, packet: bytes) -> bytes:
    """One packet, seen so long after the epoch."""
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    kept = packet[:_LONGEST]
    return _RECORD.pack(seconds, nanoseconds, len(kept), len(packet)) + kept
