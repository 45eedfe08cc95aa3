"""The blocks of one program while it is written: where we are, what each name is, what joins.

The lowest of five storeys that share one ``self``: ``Builder``, ``Arithmetic``, ``Access``,
``Expressions``, ``Statements``.  Each uses its own methods and those below it, and no others, but
for one that is declared: a call in an expression is written out as statements
(``Expressions.inline``).
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from segue.bpf.insn import Helper, Jump, Size
from segue.errors import PolicyError
from segue.policy import ir
from segue.policy.maps import Map, Ring
from segue.policy.values import Maybe, Narrowed, Nothing, Num, Unclear, Value


@dataclass(slots=True)
class State:
    """A place in the program and what every name is there."""

    block: ir.Block
    names: dict[str, Value]


@dataclass(slots=True)
class Frame:
    """A function being written: its names begin with its prefix; the ways out of it."""

    function: Callable[..., object]
    file: str
    prefix: str
    returned: list[State] = field(default_factory=list)
    broken: list[list[State]] = field(default_factory=list)
    continued: list[list[State]] = field(default_factory=list)


RETURNED = "$return"


class Builder:
    """What statements and expressions are written with."""

    def __init__(self) -> None:
        self.blocks = 0
        self.vars = 0
        self.maps: dict[str, Map | Ring] = {}
        self.frames: list[Frame] = []
        self.line = 0  # of the policy's own function: what is inlined counts as its call
        self.entry = self.block()
        self.state: State | None = State(self.entry, {})

    def refuse(self, node: ast.AST, why: str, instead: str) -> NoReturn:
        """Raise PolicyError at this place."""
        file = self.frames[-1].file
        line = getattr(node, "lineno", 1)
        first, last = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 1)
        source = linecache.getline(file, line).rstrip("\n")
        # The parser counts bytes of UTF-8.
        raw = source.encode()
        column = len(raw[:first].decode(errors="ignore")) + 1
        ends_here = getattr(node, "end_lineno", line) == line
        width = len(raw[first:last].decode(errors="ignore")) if ends_here else len(source)
        raise PolicyError(file, line, column, source, width, why, instead)

    @property
    def here(self) -> State:
        """The state; only asked for where the program can get."""
        assert self.state is not None
        return self.state

    def block(self) -> ir.Block:
        """A new one."""
        self.blocks += 1
        return ir.Block(self.blocks)

    def var(self, kind: str) -> ir.Var:
        """A new one."""
        self.vars += 1
        return ir.Var(self.vars, kind)

    def emit(self, op: ir.Op) -> None:
        """One more operation."""
        self.here.block.ops.append((op, self.line))

    def end(self, end: ir.Go | ir.Branch | ir.Leave) -> None:
        """Close the block; what follows cannot be reached."""
        self.here.block.end, self.here.block.line = end, self.line
        self.state = None

    def load(
        self,
        base: ir.Var | ir.Context | ir.StackAddress,
        offset: int,
        size: Size,
        kind: str,
    ) -> Num:
        """A number from memory, extended with zeros."""
        to = self.var(kind)
        self.emit(ir.Load(to, base, offset, size))
        return Num(kind, to, 0, (1 << 8 * size.octets) - 1)

    def call(self, helper: Helper, *arguments: ir.Argument, kind: str = "u64") -> ir.Var:
        """A helper's answer."""
        to = self.var(kind)
        self.emit(ir.Call(to, helper, arguments))
        return to

    def compare(
        self, when: Jump, left: ir.Operand, right: ir.Operand
    ) -> tuple[State | None, State | None]:
        """Split by a comparison: the state where it holds, and where not."""
        if isinstance(left, int):
            held = self.var("int")
            self.emit(ir.Move(held, left))
            left = held
        then, other = State(self.block(), dict(self.here.names)), self.block()
        away = State(other, dict(self.here.names))
        self.end(ir.Branch(when, left, right, then.block, other))
        return then, away

    def join(self, states: Sequence[State | None]) -> None:
        """Go on from all of these at once."""
        living = [state for state in states if state is not None]
        if len(living) < 2:
            self.state = living[0] if living else None
            return
        block = self.block()
        names: dict[str, Value] = {}
        known = dict.fromkeys(name for state in living for name in state.names)
        for name in known:
            joined = self._joined(name, living)
            if joined is not None:
                names[name] = joined
        for state in living:
            self.state = state
            self.end(ir.Go(block))
        self.state = State(block, names)

    def taken(self, node: ast.AST) -> Value:
        """What the paths that joined here brought along."""
        found = self.here.names.pop(RETURNED, Nothing())
        if isinstance(found, Unclear):
            self.refuse(node, "this is not one kind of value on all paths", "use u32(...) on each")
        return found

    def _yes_no(self, then: State | None, other: State | None, kind: str = "bool") -> Num:
        """Go on from both, with yes from the first and no from the second."""
        for state, said in ((then, 1), (other, 0)):
            if state is not None:
                state.names[RETURNED] = Num.constant(kind, said)
        self.join([then, other])
        found = self.here.names.pop(RETURNED)
        assert isinstance(found, Num)
        return found

    def _joined(self, name: str, states: list[State]) -> Value | None:
        values = [state.names.get(name) for state in states]
        first = values[0]
        plain = name.rpartition(".")[2]
        if all(value == first for value in values):
            return first
        if any(value is None for value in values):
            return Unclear(f"`{plain}` is not set on every path to here", f"set `{plain}` first")
        if all(isinstance(value, Num) for value in values):
            numbers = [value for value in values if isinstance(value, Num)]
            if len({one.kind for one in numbers}) == 1:
                to = self.var(numbers[0].kind)
                for state, one in zip(states, numbers, strict=True):
                    state.block.ops.append((ir.Move(to, one.operand), self.line))
                low, high = min(one.low for one in numbers), max(one.high for one in numbers)
                return Num(numbers[0].kind, to, low, high)
            kinds = " and ".join(sorted({one.kind for one in numbers}))
            return Unclear(
                f"`{plain}` is {kinds}, depending on the path to here",
                f"make it one kind on all paths, such as {plain} = u32(...)",
            )
        origins = {id(_origin(value)): _origin(value) for value in values}
        origin = next(iter(origins.values()))
        if len(origins) == 1 and origin is not None:
            return origin
        return Unclear(
            f"`{plain}` is not the same sort of thing on every path to here",
            "use it before the paths join",
        )


def _origin(value: Value | None) -> Maybe | None:
    match value:
        case Maybe():
            return value
        case Nothing(of) | Narrowed(of):
            return of
        case _:
            return None
