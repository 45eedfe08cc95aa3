"""bpf maps: made, read and written from user space (bpf(2), MAP_* commands).

A key and a value are bytes of exactly the map's sizes, in host order; what they mean is for whoever
laid the map out.  Left out: batches, maps of maps, BTF.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from segue.errors import UsageError
from segue.linux import bpf_attr
from segue.linux.bpf import Descriptor, address, command, obj_get, obj_info, refused, require
from segue.linux.bpf_attr import BpfCommand, MapType, Update

POSSIBLE = "/sys/devices/system/cpu/possible"


def cpu_count(listed: str) -> int:
    """How many CPUs a list in the kernel's notation names, such as ``0-3,8``."""
    total = 0
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


@cache
def possible_cpus() -> int:
    """How many values a per-CPU element has: CPUs that could be plugged in count too."""
    with open(POSSIBLE, encoding="ascii") as file:
        return cpu_count(file.read())


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map (struct bpf_map_info)."""

    kind: int
    id: int  # unique while the map lives; what bpftool shows
    key_size: int
    value_size: int
    entries: int
    flags: int
    name: str


class Map(Descriptor):
    """A map; it lives as long as this, a pin, or a program that uses it."""

    def __init__(self, descriptor: int, kind: MapType, key_size: int, value_size: int) -> None:
        super().__init__(descriptor)
        self.kind, self.key_size, self.value_size = kind, key_size, value_size
        # The kernel packs per-CPU values with each rounded up to 8 bytes.
        self._stride = (value_size + 7) // 8 * 8

    @classmethod
    def create(
        cls,
        kind: MapType,
        *,
        key_size: int = 4,
        value_size: int,
        entries: int,
        flags: int = 0,
        name: str = "",
    ) -> Map:
        """A new map, empty or, for the array kinds, all zero.  Raises KernelError."""
        attributes = bpf_attr.map_create(kind, key_size, value_size, entries, flags, name)
        doing = f"creating the {kind.name} map {name}".rstrip()
        return cls(require(BpfCommand.MAP_CREATE, attributes, doing), kind, key_size, value_size)

    @classmethod
    def adopt(cls, descriptor: int) -> Map:
        """Own a descriptor that came from elsewhere; the kernel says what map it is.

        Raises KernelError when it is none, UsageError when Segue has no use for its kind; the
        descriptor is then still the caller's.
        """
        info = _info(descriptor)
        if info.kind not in set(MapType):
            raise UsageError(f"map {info.name!r} is of kind {info.kind}, which Segue does not use")
        return cls(descriptor, MapType(info.kind), info.key_size, info.value_size)

    @classmethod
    def get(cls, path: str) -> Map:
        """Open a pinned map.  Raises as ``adopt`` does."""
        opened = Descriptor(obj_get(path))
        try:
            return cls.adopt(opened.fileno())
        except BaseException:
            opened.close()
            raise

    def info(self) -> MapInfo:
        """What the kernel says of it.  Raises KernelError."""
        return _info(self._fd)

    def lookup(self, key: bytes) -> bytes | None:
        """The key's value, or None.  A sockarray of 8-byte values gives the socket's cookie.

        Raises KernelError, and UsageError for a per-CPU map, which has ``lookup_percpu``.
        """
        if self.kind.per_cpu:
            raise UsageError(f"{self.kind.name} has a value for each CPU: use lookup_percpu")
        return self._lookup(key, self.value_size)

    def lookup_percpu(self, key: bytes) -> list[bytes] | None:
        """The key's values, one for each possible CPU, or None.  Raises KernelError."""
        found = self._lookup(key, self._stride * possible_cpus())
        if found is None:
            return None
        starts = range(0, len(found), self._stride)
        return [found[start : start + self.value_size] for start in starts]

    def update(self, key: bytes, value: bytes, flags: Update = Update.ANY) -> None:
        """Set the key's value; in an array this is seen whole or not at all up to 8 bytes.

        Raises KernelError: E2BIG when a hash map is full or an array has no such key; for a
        sockarray EINVAL when the socket is not listening with SO_REUSEPORT and EBUSY when it is
        in another slot or array.
        """
        self._check("value", value, self.value_size)
        self._update(key, value, flags)

    def update_percpu(self, key: bytes, values: Sequence[bytes]) -> None:
        """Set the key's value for each possible CPU.  Raises KernelError."""
        if len(values) != possible_cpus():
            raise UsageError(f"{len(values)} values for {possible_cpus()} possible CPUs")
        for value in values:
            self._check("value", value, self.value_size)
        self._update(key, b"".join(one.ljust(self._stride, b"\0") for one in values), Update.ANY)

    def delete(self, key: bytes) -> bool:
        """Take the key out; False when it was not there.  Raises KernelError."""
        result = self._element(BpfCommand.MAP_DELETE_ELEM, key)
        if result == -errno.ENOENT:
            return False
        if result < 0:
            raise refused(BpfCommand.MAP_DELETE_ELEM, -result, self._doing("deleting from"))
        return True

    def freeze(self) -> None:
        """Nobody in user space writes to it from here on.  Raises KernelError."""
        attributes = bpf_attr.map_descriptor(self._fd)
        require(BpfCommand.MAP_FREEZE, attributes, self._doing("freezing"))

    def next_key(self, key: bytes | None = None) -> bytes | None:
        """The key after this one, the first for None; None after the last.  Raises KernelError.

        In a hash map a key that was deleted meanwhile is followed by the first again.
        """
        found = ctypes.create_string_buffer(self.key_size)
        result = self._element(BpfCommand.MAP_GET_NEXT_KEY, key, found)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise refused(BpfCommand.MAP_GET_NEXT_KEY, -result, self._doing("walking"))
        return found.raw

    def keys(self) -> Iterator[bytes]:
        """Every key; one that comes or goes meanwhile may be missed or come twice."""
        key = self.next_key()
        while key is not None:
            yield key
            key = self.next_key(key)

    def _lookup(self, key: bytes, size: int) -> bytes | None:
        found = ctypes.create_string_buffer(size)
        result = self._element(BpfCommand.MAP_LOOKUP_ELEM, key, found)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise refused(BpfCommand.MAP_LOOKUP_ELEM, -result, self._doing("reading"))
        return found.raw

    def _update(self, key: bytes, value: bytes, flags: Update) -> None:
        held = ctypes.create_string_buffer(value, len(value))
        result = self._element(BpfCommand.MAP_UPDATE_ELEM, key, held, flags)
        if result < 0:
            raise refused(BpfCommand.MAP_UPDATE_ELEM, -result, self._doing("writing to"))

    def _element(
        self,
        which: BpfCommand,
        key: bytes | None,
        value: ctypes.Array[ctypes.c_char] | None = None,
        flags: int = 0,
    ) -> int:
        if key is not None:
            self._check("key", key, self.key_size)
        held = None if key is None else ctypes.create_string_buffer(key, len(key))
        attributes = bpf_attr.map_element(
            self._fd,
            address(held) if held is not None else 0,
            address(value) if value is not None else 0,
            flags,
        )
        return command(which, attributes)

    def _check(self, what: str, data: bytes, size: int) -> None:
        # The kernel cannot: it reads as many bytes as the map says, whatever is behind ours.
        if len(data) != size:
            raise UsageError(
                f"a {what} of this {self.kind.name} must have {size} bytes (got {len(data)})"
            )

    def _doing(self, verb: str) -> str:
        return f"{verb} a {self.kind.name} map"


def _info(descriptor: int) -> MapInfo:
    # A program's info begins otherwise; the kernel does not say which of the two it filled, but
    # refuses a command that is for maps only.
    probe = command(BpfCommand.MAP_GET_NEXT_KEY, bpf_attr.map_element(descriptor, 0))
    if probe in {-errno.EBADF, -errno.EINVAL}:
        raise refused(
            BpfCommand.MAP_GET_NEXT_KEY, -probe, f"taking descriptor {descriptor} for a map"
        )
    kind, number, key_size, value_size, entries, flags, name = struct.unpack(
        "=6I16s", obj_info(descriptor, 40)
    )
    plain = name.rstrip(b"\0").decode()
    return MapInfo(kind, number, key_size, value_size, entries, flags, plain)
