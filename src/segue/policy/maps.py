"""Maps a policy declares: what they hold, as bytes, and how they answer in plain Python.

A map is the policy's configuration: its contents change live, the program does not.  Its bytes are
the kernel's, in host order, so one encoding serves the control plane, the interpreter and a policy
run as plain Python.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from segue.errors import UsageError
from segue.policy.integers import Fixed, u32, u64

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,14}")
_FIELD = re.compile(r"(u8|u16|u32|u64)(?:\[(\d+)\])?")
_OCTETS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
# The kernel's own limit for an element of a per-CPU map (PCPU_MIN_UNIT_SIZE) is the smallest.
MOST_VALUE_BYTES = 32768
MOST_RECORD_BYTES = 64  # of a ring: it is made on the stack, which has 512


class Kind(Enum):
    """How a map finds its elements."""

    HASH = "hash"
    ARRAY = "array"
    PERCPU_ARRAY = "percpu_array"
    SOCKETS = "sockets"  # a REUSEPORT_SOCKARRAY, for the group's own slots
    RING = "ring"  # a Ring


@dataclass(frozen=True, slots=True)
class Field:
    """A number, or an array of them, at an offset in an element."""

    name: str
    offset: int
    octets: int
    length: int  # 0: one number and no array

    @property
    def kind(self) -> type[Fixed]:
        """What it is read as: u64 for eight octets, u32 for fewer."""
        return u64 if self.octets == 8 else u32

    @property
    def greatest(self) -> int:
        """The greatest number it can hold."""
        return (1 << 8 * self.octets) - 1

    @property
    def size(self) -> int:
        """In bytes."""
        return self.octets * max(1, self.length)


def _layout(value: str | Mapping[str, str]) -> tuple[dict[str, Field], int]:
    """The fields, in C's order and with C's alignment, and the size."""
    fields: dict[str, Field] = {}
    end = widest = 0
    for name, written in ({"": value} if isinstance(value, str) else value).items():
        found = _FIELD.fullmatch(written)
        if not found or (name and not name.isidentifier()):
            raise UsageError(
                f"a map's field {name!r} cannot be {written!r}: write u8, u16, u32 or u64, or an"
                f" array such as u16[64]"
            )
        octets, length = _OCTETS[found[1]], int(found[2] or 0)
        if found[2] and (length < 1 or length & length - 1 or not name):
            # A power of two, so that a mask proves to the verifier that an index is inside.
            raise UsageError(
                f"a map's field {name!r} cannot be {written!r}: an array is a named field whose"
                f" length is a power of two"
            )
        start = (end + octets - 1) // octets * octets
        fields[name] = Field(name, start, octets, length)
        end, widest = start + fields[name].size, max(widest, octets)
    if not fields:
        raise UsageError("a map's value has at least one field")
    return fields, (end + widest - 1) // widest * widest


class Map:
    """A map of the policy: ``get``, and for a hash or an array of numbers ``m[key] = value``.

    ``key`` is "u32" or "u64"; ``value`` a number's kind ("u8" to "u64"), or a mapping of field
    names to kinds and arrays ("u16[64]"), which ``get`` then answers as a record.  ``kind`` is
    "hash" (a key is there or not), "array" (keys 0 to size-1, always there, zero at first) or
    "percpu_array" (the same, one value for each CPU: for counting).  Raises UsageError when the
    kernel could not make such a map.  As plain Python it holds its contents itself.
    """

    def __init__(
        self,
        name: str,
        *,
        key: str = "u32",
        value: str | Mapping[str, str] = "u32",
        size: int,
        kind: str = "hash",
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be a map's name: write a letter, then at most 14 of A-Z a-z 0-9 _"
            )
        if key not in {"u32", "u64"}:
            raise UsageError(f"map {name}: a key must be u32 or u64 (got {key!r})")
        try:
            self.kind = Kind(kind)
        except ValueError:
            raise UsageError(
                f"map {name}: a kind must be hash, array or percpu_array (got {kind!r})"
            ) from None
        if not 0 < size <= 1 << 24:
            raise UsageError(f"map {name}: a size must be between 1 and 16777216 (got {size})")
        if self.kind is not Kind.HASH and key != "u32":
            raise UsageError(f"map {name}: the key of an array is u32")
        self.name, self.size = name, size
        self.key: type[Fixed] = u64 if key == "u64" else u32
        self.fields, self.value_bytes = _layout(value)
        if self.value_bytes > MOST_VALUE_BYTES:
            raise UsageError(
                f"map {name}: a value of {self.value_bytes} bytes is more than {MOST_VALUE_BYTES}"
            )
        self.contents: dict[int, bytearray] = {}

    @property
    def key_bytes(self) -> int:
        """The size of a key."""
        return self.key.bits // 8

    @property
    def scalar(self) -> Field | None:
        """The one number an element is; None for a record."""
        return self.fields.get("")

    def get(self, key: int) -> Any:
        """The number, or the record, under this key; None when there is none."""
        place = int(self.key(key))
        if self.kind is not Kind.HASH:
            if place >= self.size:
                return None
            self.contents.setdefault(place, bytearray(self.value_bytes))
        data = self.contents.get(place)
        if data is None:
            return None
        record = Record(self, data)
        return record.read(self.scalar) if self.scalar else record

    def __setitem__(self, key: int, value: int) -> None:
        """As in the kernel, what does not fit any more is not put in, without a word."""
        place = int(self.key(key))
        full = len(self.contents) >= self.size and place not in self.contents
        if self.scalar is None:
            raise UsageError(f"map {self.name} holds records: get one and set its fields")
        if full if self.kind is Kind.HASH else place >= self.size:
            return
        data = self.contents.setdefault(place, bytearray(self.value_bytes))
        Record(self, data).write(self.scalar, value)

    def __delitem__(self, key: int) -> None:
        """Taking out what is not there is no error."""
        self.contents.pop(int(self.key(key)), None)

    def put(self, key: int, data: bytes) -> None:
        """Set an element from the kernel's own bytes."""
        if len(data) != self.value_bytes:
            raise UsageError(
                f"a value of map {self.name} must have {self.value_bytes} bytes (got {len(data)})"
            )
        self.contents[key] = bytearray(data)

    def clear(self) -> None:
        """As it was declared: empty, or all zero."""
        self.contents.clear()


class Ring:
    """Records on their way to a reader: a BPF_MAP_TYPE_RINGBUF of ``size`` bytes.

    A record's fields are numbers that leave no gap, in C's layout, MOST_RECORD_BYTES in all at
    most.  As plain Python it holds its records itself, and has room for any number.
    """

    kind = Kind.RING
    key_bytes = 0

    def __init__(self, name: str, *, value: Mapping[str, str], size: int) -> None:
        self.name, self.size = name, size
        self.fields, self.value_bytes = _layout(value)
        if any(one.length for one in self.fields.values()) or self.value_bytes != sum(
            one.size for one in self.fields.values()
        ):
            raise UsageError(f"ring {name}: a record is of plain numbers without a gap between")
        if self.value_bytes > MOST_RECORD_BYTES:
            raise UsageError(
                f"ring {name}: a record of {self.value_bytes} bytes is more than"
                f" {MOST_RECORD_BYTES}"
            )
        self.records: list[bytes] = []

    def put(self, *values: int) -> bool:
        """One more record, its fields in order; whether there was room."""
        self.records.append(
            b"".join(
                (int(value) & field.greatest).to_bytes(field.octets, sys.byteorder)
                for field, value in zip(self.fields.values(), values, strict=True)
            )
        )
        return True

    def read(self, record: bytes) -> dict[str, int]:
        """The fields of one.  Raises UsageError when it is none of this ring's."""
        if len(record) != self.value_bytes:
            raise UsageError(
                f"a record of ring {self.name} must have {self.value_bytes} bytes"
                f" (got {len(record)})"
            )
        return {
            name: int.from_bytes(record[one.offset : one.offset + one.octets], sys.byteorder)
            for name, one in self.fields.items()
        }


class Record:
    """An element's fields, read and written in place."""

    __slots__ = ("_data", "_map")
    _data: bytearray
    _map: Map

    def __init__(self, of: Map, data: bytearray) -> None:
        object.__setattr__(self, "_map", of)
        object.__setattr__(self, "_data", data)

    def read(self, field: Field, index: int = 0) -> Fixed:
        """The number at this field and place."""
        start = field.offset + index * field.octets
        return field.kind(int.from_bytes(self._data[start : start + field.octets], sys.byteorder))

    def write(self, field: Field, value: int, index: int = 0) -> None:
        """Set it, modulo its width."""
        start = field.offset + index * field.octets
        kept = int(value) & field.greatest
        self._data[start : start + field.octets] = kept.to_bytes(field.octets, sys.byteorder)

    def __getattr__(self, name: str) -> Fixed | Elements:
        field = self._field(name)
        return Elements(self, field) if field.length else self.read(field)

    def __setattr__(self, name: str, value: int) -> None:
        field = self._field(name)
        if field.length:
            raise UsageError(f"{name} is an array: set its elements")
        self.write(field, value)

    def _field(self, name: str) -> Field:
        found = self._map.fields.get(name)
        if not isinstance(found, Field):
            raise AttributeError(f"map {self._map.name} has no field {name!r}")
        return found


class Elements:
    """The numbers of an array field."""

    __slots__ = ("_field", "_record")

    def __init__(self, record: Record, field: Field) -> None:
        self._record, self._field = record, field

    def __len__(self) -> int:
        return self._field.length

    def __iter__(self) -> Iterator[Fixed]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Fixed:
        return self._record.read(self._field, self._inside(index))

    def __setitem__(self, index: int, value: int) -> None:
        self._record.write(self._field, value, self._inside(index))

    def _inside(self, index: int) -> int:
        if not 0 <= index < self._field.length:
            raise IndexError(f"{index} is outside {self._field.name}[{self._field.length}]")
        return int(index)
