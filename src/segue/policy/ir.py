"""The form between Python and eBPF: typed variables, blocks, and no way back.

Loops are written out, so the blocks form no circle; a variable is assigned once on every path.
Which is why liveness needs one pass, and the longest path can be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from segue.bpf.insn import Alu, Helper, Jump, Size
from segue.bpf.interp import compared


@dataclass(frozen=True, slots=True, eq=False)
class Var:
    """A number of 64 bits or a pointer; ``kind`` is for the reader."""

    number: int
    kind: str

    def __repr__(self) -> str:
        return f"v{self.number}:{self.kind}"


Operand = Var | int


@dataclass(frozen=True, slots=True)
class MapAddress:
    """The map of this name, as a helper's argument."""

    name: str


@dataclass(frozen=True, slots=True)
class StackAddress:
    """The place below the frame pointer, as a helper's argument."""

    offset: int


@dataclass(frozen=True, slots=True)
class Context:
    """What the program was called with: struct sk_reuseport_md."""


@dataclass(frozen=True, slots=True)
class Move:
    """``to = value``."""

    to: Var
    value: Operand


@dataclass(frozen=True, slots=True)
class Binary:
    """``to = left op right``; on 32 bits the upper half becomes zero."""

    op: Alu
    to: Var
    left: Operand
    right: Operand
    wide: bool


@dataclass(frozen=True, slots=True)
class HostOrder:
    """``to`` = the low bits of ``value`` from network order, the rest zero."""

    to: Var
    value: Var
    bits: int


@dataclass(frozen=True, slots=True)
class Load:
    """``to = *(base + offset)``."""

    to: Var
    base: Var | Context | StackAddress
    offset: int
    size: Size


@dataclass(frozen=True, slots=True)
class Store:
    """``*(base + offset) = value``."""

    base: Var | StackAddress
    offset: int
    size: Size
    value: Operand


Argument = Operand | MapAddress | StackAddress | Context


@dataclass(frozen=True, slots=True)
class Call:
    """``to = helper(arguments)``."""

    to: Var
    helper: Helper
    arguments: tuple[Argument, ...]


Op = Move | Binary | HostOrder | Load | Store | Call


@dataclass(slots=True)
class Go:
    """On to a block."""

    to: Block


@dataclass(slots=True)
class Branch:
    """To one of two blocks, by a comparison on 64 bits."""

    when: Jump
    left: Var
    right: Operand
    then: Block
    other: Block


@dataclass(slots=True)
class Leave:
    """The end: the verdict."""

    verdict: Operand


@dataclass(slots=True, eq=False)
class Block:
    """Operations in order, each with its source line, and one way on."""

    number: int
    ops: list[tuple[Op, int]] = field(default_factory=list)
    end: Go | Branch | Leave | None = None
    line: int = 0  # of the end

    def after(self) -> tuple[Block, ...]:
        """Where it can go on."""
        match self.end:
            case Go(to):
                return (to,)
            case Branch(then=then, other=other):
                return (other, then)
            case _:
                return ()


def reads(op: Op | Go | Branch | Leave | None) -> Iterator[Var]:
    """The variables it needs."""
    found: tuple[object, ...]
    match op:
        case Move(_, value) | HostOrder(_, value):
            found = (value,)
        case Binary(left=left, right=right) | Branch(left=left, right=right):
            found = (left, right)
        case Load(base=base):
            found = (base,)
        case Store(base=base, value=value):
            found = (base, value)
        case Call(arguments=arguments):
            found = arguments
        case Leave(verdict):
            found = (verdict,)
        case _:
            found = ()
    return (one for one in found if isinstance(one, Var))


def thread(entry: Block) -> Block:
    """The same program by shorter ways; its entry.

    Left out on the way: blocks that only go on, branches to one place, and branches over what is
    known on the path to them, such as whether a map had the key just looked up.
    """
    # From the end, so that what a block goes to is shortened before it.
    for block in reversed(in_order(entry)):
        match block.end:
            case Go(to):
                known = {
                    op.to: op.value
                    for op, _ in block.ops
                    if isinstance(op, Move) and isinstance(op.value, int)
                }
                block.end = Go(_through(to, known))
            case Branch(when, left, right, then, other):
                then, other = _through(then, {}), _through(other, {})
                same = then is other
                block.end = Go(then) if same else Branch(when, left, right, then, other)
    return _through(entry, {})


def _through(block: Block, known: Mapping[Var, int]) -> Block:
    """Where a path really gets to that goes to this block."""
    while not block.ops:
        match block.end:
            case Go(to):
                block = to
            case Branch(when, left, int() as right, then, other) if left in known:
                block = then if compared(when, known[left], right, 64) else other
            case _:
                break
    return block


def in_order(entry: Block) -> list[Block]:
    """Every block that can be reached, each after all that lead to it."""
    done: list[Block] = []
    seen: set[Block] = set()
    waiting: list[tuple[Block, bool]] = [(entry, False)]
    while waiting:
        block, left = waiting.pop()
        if left:
            done.append(block)
        elif block not in seen:
            seen.add(block)
            waiting.append((block, True))
            waiting.extend((one, False) for one in reversed(block.after()))
    return done[::-1]
