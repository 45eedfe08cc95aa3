"""Object files: the golden ones that clang built, and small ones made by hand."""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segue.bpf import asm
from segue.bpf.elf import ALLOCATED, EM_BPF, EXECUTABLE, Kind, SymbolKind
from segue.bpf.insn import R0, Instruction, encode


def own(where: Path) -> Path:
    """A copy of these files: who runs the tests need not be who checked them out, and Segue uses no
    object that somebody else could have written.
    """
    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made)
    made.chmod(0o755)
    for one in where.iterdir():
        shutil.copyfile(one, made / one.name)
        (made / one.name).chmod(0o644)
    return made


GOLDEN = own(Path(__file__).parent.parent / "golden" / "objects")
OBJECTS = sorted(one.name for one in GOLDEN.glob("*.o"))

PASS = (asm.mov_imm(R0, 1), asm.leave())
HOOK = "sk_reuseport/migrate"
LOAD = 1  # R_BPF_64_64
CALL = 10  # R_BPF_64_32
# struct bpf_map_def: kind, key, value, entries, flags.
SOCKARRAY = (20, 4, 8, 64, 0)


@dataclass
class File:
    """Sections, symbols and relocations, in the order in which they are added."""

    sections: list[tuple[str, int, int, bytes, int]] = field(default_factory=list)
    symbols: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    relocations: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    def section(
        self, name: str, data: bytes, *, flags: int = 0, kind: int = Kind.PROGBITS, size: int = -1
    ) -> int:
        """Add a section; its index."""
        self.sections.append((name, kind, flags, data, len(data) if size < 0 else size))
        return len(self.sections)

    def symbol(self, name: str, section: int, value: int = 0, size: int = 0, kind: int = 0) -> int:
        """Add a symbol; its number."""
        self.symbols.append((name, kind, section, value, size))
        return len(self.symbols)

    def relocate(self, section: int, slot: int, symbol: int, kind: int = LOAD) -> None:
        """The instruction at this slot of the section waits for the symbol."""
        self.relocations.setdefault(section, []).append((slot * 8, kind, symbol))

    def function(self, section: str, code: Sequence[Instruction], name: str = "f") -> int:
        """A section with one function in it; the section's index."""
        data = encode(code)
        index = self.section(section, data, flags=ALLOCATED | EXECUTABLE)
        self.symbol(name, index, 0, len(data), SymbolKind.FUNC)
        return index

    def maps(self, **laid_out: tuple[int, ...]) -> dict[str, int]:
        """The section ``maps`` with these definitions; their symbols."""
        index = self.section("maps", b"".join(struct.pack("<5I", *d) for d in laid_out.values()))
        return {
            name: self.symbol(name, index, 20 * number, 20, SymbolKind.OBJECT)
            for number, name in enumerate(laid_out)
        }

    def build(self, machine: int = EM_BPF, kind: int = 1) -> bytes:
        """The bytes of the file."""
        sections = list(self.sections)
        names = _Strings()
        symbols = _Strings()
        table = bytes(24) + b"".join(
            struct.pack("<IBBHQQ", symbols.at(name), what, 0, section, value, size)
            for name, what, section, value, size in self.symbols
        )
        first = len(sections) + 1
        rows: list[tuple[str, int, int, bytes, int, int, int]] = [
            (name, what, flags, data, size, 0, 0) for name, what, flags, data, size in sections
        ]
        rows.append((".strtab", Kind.STRTAB, 0, symbols.data, len(symbols.data), 0, 0))
        rows.append((".symtab", Kind.SYMTAB, 0, table, len(table), first, 0))
        for section, found in self.relocations.items():
            data = b"".join(
                struct.pack("<QQ", at, symbol << 32 | what) for at, what, symbol in found
            )
            name = f".rel{sections[section - 1][0]}"
            rows.append((name, Kind.REL, 0, data, len(data), first + 1, section))
        at = {name: names.at(name) for name, *_ in rows}
        own = names.at(".shstrtab")
        rows.append((".shstrtab", Kind.STRTAB, 0, names.data, len(names.data), 0, 0))
        at[".shstrtab"] = own
        body, written = b"", bytes(64)
        for name, what, flags, data, size, link, info in rows:
            offset = 64 + len(body)
            body += data
            written += struct.pack(
                "<IIQQQQIIQQ", at[name], what, flags, 0, offset, size, link, info, 1, 0
            )
        header = struct.pack(
            "<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, kind, machine, 1, 0, 0,
            64 + len(body), 0, 64, 0, 0, 64, len(rows) + 1, len(rows),
        )  # fmt: skip
        return header + body + written


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def at(self, text: str) -> int:
        found = len(self.data)
        self.data += text.encode() + b"\0"
        return found


def policy(code: Sequence[Instruction] = PASS, /, **maps: tuple[int, ...]) -> bytes:
    """A whole object: this program, and a sockarray beside these maps."""
    made = File()
    made.function(HOOK, code)
    made.maps(**{"sockets": SOCKARRAY, **maps})
    return made.build()
