"""Types as a compiler describes them: map declarations read from them, and nonsense refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.bpf.btf import Btf, Declared, Kind, relocated_by_type
from segue.errors import WireError


class Types:
    """Types in the order in which they are added, as the bytes of a section."""

    def __init__(self) -> None:
        self.names = b"\0"
        self.body = b""
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        found = len(self.names)
        self.names += text.encode() + b"\0"
        return found

    def add(
        self, kind: Kind, refers: int = 0, rest: bytes = b"", *, name: str = "", count: int = 0
    ) -> int:
        self.body += struct.pack("<III", self.name(name), kind << 24 | count, refers) + rest
        self.count += 1
        return self.count

    def array(self, element: int, count: int) -> int:
        return self.add(Kind.ARRAY, 0, struct.pack("<III", element, 1, count))

    def number(self, value: int) -> int:
        """What __uint(name, value) points to."""
        return self.add(Kind.PTR, self.array(1, value))

    def map(self, name: str, **members: int) -> int:
        """A variable of the structure that declares a map, its members being types."""
        rest = b"".join(
            struct.pack("<III", self.name(key), kind, 0) for key, kind in members.items()
        )
        structure = self.add(Kind.STRUCT, 8 * len(members), rest, count=len(members))
        return self.add(Kind.VAR, structure, bytes(4), name=name)

    def maps(self, *variables: int) -> None:
        """The section of maps, with these."""
        rest = b"".join(struct.pack("<III", one, 0, 32) for one in variables)
        self.add(Kind.DATASEC, 32, rest, name=".maps", count=len(variables))

    def build(self) -> bytes:
        size = len(self.body)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, size, size, len(self.names))
        return header + self.body + self.names


def started() -> Types:
    """Type 1 is int."""
    made = Types()
    made.add(Kind.INT, 4, struct.pack("<I", 32), name="int")
    return made


def test_a_declaration_says_numbers_and_types() -> None:
    """By __uint and __type, sizes given or those of the types; what is not said is 0."""
    made = started()
    pointer = made.add(Kind.PTR, 1)
    one = made.map("one", type=made.number(20), key=pointer, value=pointer)
    two = made.map(
        "two",
        type=made.number(1),
        key_size=made.number(16),
        value_size=made.number(3),
        max_entries=made.number(7),
        map_flags=made.number(1),
    )
    made.maps(one, two)
    assert Btf(made.build()).maps() == [
        Declared("one", 20, 4, 4, 0, 0),
        Declared("two", 1, 16, 3, 7, 1),
    ]


def test_without_the_section_there_are_no_maps() -> None:
    """A program may have none."""
    assert Btf(started().build()).maps() == []


def test_sizes_are_followed_to_where_they_stand() -> None:
    """Through names and qualifiers, times the elements of arrays; a pointer has 8 bytes."""
    made = started()
    byte = made.add(Kind.INT, 1, bytes(4), name="char")
    grid = made.array(made.array(byte, 6), 4)
    named = made.add(Kind.CONST, made.add(Kind.TYPEDEF, grid, name="grid"))
    pointers = made.array(made.add(Kind.PTR, 0), 3)
    one_of = made.add(Kind.ENUM64, 8, bytes(12), count=1)
    btf = Btf(made.build())
    assert [btf.size(one) for one in (1, named, pointers, one_of)] == [4, 24, 24, 8]


def test_what_has_no_size_is_refused() -> None:
    """Void, functions, a name for itself, and arrays beyond what a map can hold."""
    made = started()
    function = made.add(Kind.FUNC_PROTO, 1)
    loop = made.add(Kind.TYPEDEF, made.count + 1, name="loop")
    huge = made.array(made.array(1, 1 << 31), 1 << 31)
    btf = Btf(made.build())
    for one in (0, function, loop, huge, 99):
        with pytest.raises(WireError, match=r"type 99|has no size"):
            btf.size(one)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"values": 2}, "'values', which Segue does not know"),
        ({"pinning": 2}, "'pinning', which Segue does not know"),
        ({"type": 1}, "'type', which Segue does not know"),
        ({"type": 2}, "has no number as type"),
    ],
)
def test_a_declaration_that_says_something_else_is_refused(
    members: dict[str, int], said: str
) -> None:
    """Maps in maps, pins, and members that are no numbers."""
    made = started()
    made.add(Kind.PTR, 1)
    made.maps(made.map("odd", **members))
    with pytest.raises(WireError, match=f"map 'odd' .*{said}"):
        Btf(made.build()).maps()


def test_a_declaration_that_never_ends_is_refused() -> None:
    """As many maps as members would else take their product to read."""
    made = started()
    rest = struct.pack("<III", made.name("type"), 1, 0) * 8
    structure = made.add(Kind.STRUCT, 64, rest, count=8)
    made.maps(made.add(Kind.VAR, structure, bytes(4), name="long"))
    with pytest.raises(WireError, match="'long' says more than there is to say"):
        Btf(made.build()).maps()


def test_a_map_that_is_no_structure_is_refused() -> None:
    """Whatever stands in the section."""
    made = started()
    made.maps(made.add(Kind.VAR, 1, bytes(4), name="number"))
    with pytest.raises(WireError, match="'number' is not a structure"):
        Btf(made.build()).maps()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x9f\xeb", "too few for its header"),
        (bytes(24), "no header of version 1"),
        (started().build()[:30], "longer than its 30 bytes"),
    ],
)
def test_a_header_that_lies_is_refused(data: bytes, said: str) -> None:
    """Where it is said to begin and to end is looked at first."""
    with pytest.raises(WireError, match=said):
        Btf(data)


def test_types_that_do_not_end_are_refused_by_their_number() -> None:
    """Half a type, half of what follows it, a kind that is not known, a name that is not there."""
    half = started()
    half.body += bytes(8)
    short = started()
    short.add(Kind.STRUCT, 8, bytes(4), count=1)
    unknown = started()
    unknown.body += struct.pack("<III", 0, 31 << 24, 0)
    for made, said in (
        (half, "ends within type 2"),
        (short, "ends within type 2"),
        (unknown, "type 2 is of kind 31"),
    ):
        with pytest.raises(WireError, match=said):
            Btf(made.build())
    nameless = started()
    nameless.body += struct.pack("<III", 999, Kind.FWD << 24, 0)
    with pytest.raises(WireError, match="no name within 255 bytes at 999"):
        Btf(nameless.build())


def extension(sections: dict[int, int], record: int = 16, claimed: int = 0) -> bytes:
    """A .BTF.ext with so many relocations by type for each section's name."""
    table = struct.pack("<I", record) if sections else b""
    for name, count in sections.items():
        table += struct.pack("<II", name, count) + bytes(record * count)
    return struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, claimed or len(table)) + table


def test_sections_that_wait_for_the_kernels_types_are_named() -> None:
    """Those with at least one relocation; a compiler from before there were any has none."""
    made = started()
    waits, free = made.name("sk_reuseport"), made.name(".text")
    btf = Btf(made.build())
    assert relocated_by_type(btf, extension({waits: 2, free: 0})) == {"sk_reuseport"}
    assert relocated_by_type(btf, extension({})) == set()
    old = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, 0, 0, 0)
    assert relocated_by_type(btf, old) == set()


def test_an_extension_that_lies_is_refused() -> None:
    """Too short, of another version, or with records beyond its end."""
    btf = Btf(started().build())
    for data, said in (
        (b"", "too few"),
        (bytes(32), "no header of version 1"),
        (extension({1: 1}, claimed=500), "longer than its"),
        (extension({1: 1}, claimed=9), "ends within its relocations"),
        (extension({1: 1})[:-16] + bytes(12), "longer than its"),
    ):
        with pytest.raises(WireError, match=said):
            relocated_by_type(btf, data)


@given(st.binary(max_size=400), st.binary(max_size=100))
def test_no_bytes_do_worse_than_a_wire_error(types: bytes, ext: bytes) -> None:
    """Behind headers that are right, so that what they announce is read."""
    sound = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), 0, len(types)) + types
    for data in (types, sound):
        try:
            btf = Btf(data)
            btf.maps()
            for number in range(3):
                btf.size(number)
            header = struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, len(ext))
            relocated_by_type(btf, header + ext)
        except WireError:
            pass
