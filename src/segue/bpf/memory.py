"""What an interpreted program can reach: regions with edges, pointers into them, and maps.

A pointer is no number here: it names its region, so that nothing outside can be reached whatever
is added to it, and what was never written cannot be read.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

WORD = (1 << 64) - 1
POINTER_BYTES = 8


class Fault(Exception):
    """A step no verifier lets a program take; the interpreter adds where it was."""


class Region:
    """Bytes under one name.  ``pointers`` stand where a load of eight bytes gives a pointer.

    In a ``fresh`` region nothing can be read before it is written.
    """

    def __init__(
        self,
        name: str,
        data: bytearray,
        *,
        writable: bool = False,
        fresh: bool = False,
        pointers: Mapping[int, Value] | None = None,
    ) -> None:
        self.name, self.data, self.writable = name, data, writable
        self.pointers = dict(pointers or {})
        self._unread = set(range(len(data))) if fresh else set()

    def read(self, offset: int, octets: int) -> Value:
        """A number, or the pointer that was put there."""
        self._inside(offset, octets)
        for place, held in self.pointers.items():
            if place < offset + octets and offset < place + POINTER_BYTES:
                if (place, octets) != (offset, POINTER_BYTES):
                    raise Fault(f"reads a part of the pointer at {self.name}[{place}]")
                return held
        if not self._unread.isdisjoint(range(offset, offset + octets)):
            raise Fault(f"reads {self.name}[{offset}], which was never written")
        return int.from_bytes(self.data[offset : offset + octets], sys.byteorder)

    def take(self, offset: int, octets: int) -> bytes:
        """So many bytes, none of them a pointer: what a helper is given."""
        self._inside(offset, octets)
        if not self._unread.isdisjoint(range(offset, offset + octets)):
            raise Fault(f"gives a helper {self.name}[{offset}], which was never written")
        if any(offset - POINTER_BYTES < place < offset + octets for place in self.pointers):
            raise Fault(f"gives a helper the pointer in {self.name}[{offset}:]")
        return bytes(self.data[offset : offset + octets])

    def write(self, offset: int, octets: int, value: Value) -> None:
        """Set a number, or on the stack a pointer."""
        self._inside(offset, octets)
        if not self.writable:
            raise Fault(f"writes to {self.name}, which is read only")
        for place in range(offset - POINTER_BYTES + 1, offset + octets):
            self.pointers.pop(place, None)
        self._unread.difference_update(range(offset, offset + octets))
        if not isinstance(value, int):
            if self.name != STACK or octets != POINTER_BYTES:
                raise Fault(f"writes a pointer to {self.name}, where it would leak")
            self.pointers[offset] = value
            value = 0
        kept = value & (1 << 8 * octets) - 1
        self.data[offset : offset + octets] = kept.to_bytes(octets, sys.byteorder)

    def _inside(self, offset: int, octets: int) -> None:
        if not 0 <= offset <= len(self.data) - octets:
            raise Fault(
                f"reaches {self.name}[{offset}:{offset + octets}], which has {len(self.data)} bytes"
            )
        # The packet begins where the network device put it, the rest on its natural border.
        if self.name != PACKET and offset % octets and octets in {2, 4, 8}:
            raise Fault(f"reaches {octets} bytes at {self.name}[{offset}], which is not aligned")


STACK = "stack"
PACKET = "packet"


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place in a region, or beside it: only reaching for it shows."""

    region: Region
    offset: int

    def moved(self, by: int) -> Pointer:
        """So many bytes on; ``by`` is taken as signed."""
        signed = by - (1 << 64) if by >> 63 else by
        return replace(self, offset=self.offset + signed)


class MapKind(Enum):
    """How a map finds its elements."""

    HASH = "hash"
    ARRAY = "array"
    SOCKETS = "sockets"
    RING = "ring"


@dataclass(slots=True, eq=False)
class MapMemory:
    """A map: elements by key, a key as the number its bytes are in host order.

    An array's elements are all there and zero until they are set.  What is asked of a map it
    cannot do raises Fault; what the kernel answers with a number is that number.
    """

    name: str
    kind: MapKind
    key_bytes: int
    value_bytes: int
    entries: int
    contents: dict[int, bytearray] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)  # of a ring, as they were put out

    def lookup(self, key: int) -> Pointer | None:
        """The element's place; None when there is none."""
        if self.kind is MapKind.ARRAY and key < self.entries:
            self.contents.setdefault(key, bytearray(self.value_bytes))
        data = self.contents.get(key)
        if data is None:
            return None
        return Pointer(Region(f"map {self.name}", data, writable=True), 0)

    def update(self, key: int, value: bytes) -> int:
        """0, or -E2BIG when the key is outside or the map is full."""
        full = len(self.contents) >= self.entries and key not in self.contents
        if full if self.kind is MapKind.HASH else key >= self.entries:
            return -errno.E2BIG
        self.contents[key] = bytearray(value)
        return 0

    def delete(self, key: int) -> int:
        """0; -ENOENT for no such key, -EINVAL for an array."""
        if self.kind is not MapKind.HASH:
            return -errno.EINVAL
        return 0 if self.contents.pop(key, None) is not None else -errno.ENOENT


Value = int | Pointer | MapMemory
