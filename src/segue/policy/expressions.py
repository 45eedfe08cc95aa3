"""Expressions of a policy: arithmetic, names, attributes and calls."""

from __future__ import annotations

import ast
import builtins
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType

from segue.bpf.insn import Alu, Helper, Jump
from segue.policy import common, connection, ir
from segue.policy.access import Access
from segue.policy.builder import RETURNED, State
from segue.policy.integers import Fixed
from segue.policy.language import Selection, Verdict
from segue.policy.maps import Map, Ring
from segue.policy.plain import Policy
from segue.policy.values import (
    FIXED,
    ElementsAt,
    Maybe,
    Method,
    Narrowed,
    Nothing,
    Num,
    Python,
    RecordAt,
    SlotAt,
    SocketAt,
    Thing,
    Unclear,
    Value,
)

_COMPARED: dict[type[ast.cmpop], tuple[Jump, Jump, Callable[[int, int], bool]]] = {
    ast.Eq: (Jump.EQ, Jump.EQ, operator.eq),
    ast.NotEq: (Jump.NE, Jump.NE, operator.ne),
    ast.Lt: (Jump.LT, Jump.SLT, operator.lt),
    ast.LtE: (Jump.LE, Jump.SLE, operator.le),
    ast.Gt: (Jump.GT, Jump.SGT, operator.gt),
    ast.GtE: (Jump.GE, Jump.SGE, operator.ge),
}
_DIRECT = {"hash", "cookie", "child_cookie", "cpu"}
_CONN = {
    "migrating": connection.migrating,
    "ipv6": connection.ipv6,
    "remote_ip4": connection.remote_ip4,
    "local_ip4": connection.local_ip4,
    "remote_port": connection.remote_port,
    "local_port": connection.local_port,
    "protocol": connection.protocol,
    "flow_label": connection.flow_label,
    "tcp_flags": connection.tcp_flags,
    "options_length": connection.options_length,
    "bind_inany": connection.bind_inany,
}
_CONN_WORDS = {"remote_ip6": connection.remote_ip6, "local_ip6": connection.local_ip6}
_CONN_CALLS = {"now_ns": Helper.KTIME_GET_NS, "random": Helper.GET_PRANDOM_U32}


class Expressions(Access, ABC):
    """``value`` says what an expression is, ``test`` splits by it."""

    def value(self, node: ast.expr) -> Value:
        """The expression here; raises PolicyError when the language has no such."""
        match node:
            case ast.Constant(None):
                return Nothing()
            case ast.Constant(bool(said)):
                return Num.constant("bool", int(said))
            case ast.Constant(int(number)):
                return self._exact(node, number)
            case ast.Name(name):
                return self._name(node, name)
            case ast.Attribute(of, name):
                return self._attribute(node, self.value(of), name)
            case ast.Call():
                return self._call(node)
            case ast.Subscript(of, index):
                return self._subscript(node, self.value(of), index)
            case ast.BinOp(left, op, right):
                return self.calculate(node, op, self.number(left), self.number(right))
            case ast.UnaryOp(ast.USub() | ast.Invert() | ast.UAdd() as op, operand):
                return self._unary(node, op, self.number(operand))
            case ast.UnaryOp(ast.Not()) | ast.Compare() | ast.BoolOp():
                return self._truth(node)
            case ast.IfExp(test, body, orelse):
                return self._either(node, test, body, orelse)
            case ast.Constant():
                self.refuse(
                    node,
                    f"a policy has no {type(node.value).__name__}",
                    "write an integer: addresses and ports are numbers here",
                )
        self.refuse(
            node,
            f"a policy has no {type(node).__name__.lower()}",
            "docs/POLICY.md lists the possible expressions",
        )

    def number(self, node: ast.expr) -> Num:
        """The same, which must be a number."""
        return self._numeric(node, self.value(node))

    def _numeric(self, node: ast.expr, found: Value) -> Num:
        if isinstance(found, Num) and found.numeric:
            return found
        self._untested(node, found)
        if isinstance(found, Num):
            self.refuse(
                node,
                f"this is {found.kind}, and a number is needed",
                "write 1 if ... else 0",
            )
        self.refuse(node, "a number is needed here", "write an expression of integers")

    def test(self, node: ast.expr) -> tuple[State | None, State | None]:
        """Split by whether it holds."""
        match node:
            case ast.UnaryOp(ast.Not(), operand):
                then, other = self.test(operand)
                return other, then
            case ast.BoolOp(op, values):
                return self._both(values, whole=isinstance(op, ast.And))
            case ast.Compare():
                return self._compare(node)
        found = self.value(node)
        self._untested(node, found)
        if not isinstance(found, Num) or found.kind == "verdict":
            self.refuse(node, "this is neither true nor false", "compare it with something")
        return self._split(Jump.NE, operator.ne, found.operand, 0)

    def _untested(self, node: ast.expr, found: Value) -> None:
        if isinstance(found, Maybe):
            text = ast.unparse(node)
            self.refuse(
                node,
                f"`{text}` may be None here",
                f"test it first: if {text} is None: return ...",
            )
        if isinstance(found, Nothing):
            self.refuse(node, "this is None here", "use it only where it was tested")

    def _split(
        self, when: Jump, plain: Callable[[int, int], bool], left: ir.Operand, right: ir.Operand
    ) -> tuple[State | None, State | None]:
        if isinstance(left, int) and isinstance(right, int):
            return (self.here, None) if plain(left, right) else (None, self.here)
        return self.compare(when, left, right)

    def _both(self, values: list[ast.expr], *, whole: bool) -> tuple[State | None, State | None]:
        early: list[State | None] = []
        going: State | None = self.here
        for one in values:
            if going is None:
                break
            self.state = going
            then, other = self.test(one)
            going, done = (then, other) if whole else (other, then)
            early.append(done)
        self.join(early)
        ended, self.state = self.state, None
        return (going, ended) if whole else (ended, going)

    def _truth(self, node: ast.expr) -> Num:
        if isinstance(node, ast.BoolOp):
            for one in node.values:
                if not isinstance(one, ast.Compare | ast.BoolOp | ast.UnaryOp):
                    self.refuse(
                        one,
                        "`and` and `or` as values are of comparisons only",
                        "compare it: ... != 0",
                    )
        then, other = self.test(node)
        return self._yes_no(then, other)

    def _either(self, node: ast.IfExp, test: ast.expr, body: ast.expr, orelse: ast.expr) -> Value:
        ends: list[State | None] = []
        for state, part in zip(self.test(test), (body, orelse), strict=True):
            self.state = state
            if state is not None:
                found = self.value(part)
                self.here.names[RETURNED] = found
                ends.append(self.state)
        self.join(ends)
        return self.taken(node)

    def _compare(self, node: ast.Compare) -> tuple[State | None, State | None]:
        if len(node.ops) > 1:
            self.refuse(node, "a comparison is of two", "write it in two: a < b and b < c")
        op, right = node.ops[0], node.comparators[0]
        if isinstance(op, ast.Is | ast.IsNot):
            found = self._is_none(node, right)
            return found if isinstance(op, ast.Is) else found[::-1]
        if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
            every = [
                ast.copy_location(ast.Compare(node.left, [ast.Eq()], [one]), node)
                for one in right.elts
            ]
            found = self._both([*every], whole=False)
            return found if isinstance(op, ast.In) else found[::-1]
        if type(op) not in _COMPARED:
            self.refuse(
                node, "a policy has no such comparison", "write `in` with a tuple of numbers"
            )
        unsigned, signed, plain = _COMPARED[type(op)]
        sides = (self.value(node.left), self.value(right))
        if all(isinstance(one, Num) and one.kind == "verdict" for one in sides):
            left_number, right_number = (one for one in sides if isinstance(one, Num))
        else:
            left_number = self._numeric(node.left, sides[0])
            right_number = self._numeric(right, sides[1])
        kinds = {left_number.kind, right_number.kind}
        negative = min(left_number.low, right_number.low) < 0
        if "u64" in kinds and negative:
            self.refuse(
                node,
                "u64 and a number with a sign do not compare",
                "make both one kind: u64(...) or i64(...)",
            )
        when = signed if negative else unsigned
        return self._split(when, plain, left_number.operand, right_number.operand)

    def _is_none(self, node: ast.Compare, right: ast.expr) -> tuple[State | None, State | None]:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self.refuse(node, "`is` is for None only", "write == for numbers")
        found = self.value(node.left)
        if isinstance(found, Nothing):
            return self.here, None
        if not isinstance(found, Maybe):
            return None, self.here
        then, other = self.compare(Jump.EQ, found.present, 0)
        for state, known in ((then, Nothing(found)), (other, Narrowed(found))):
            assert state is not None
            for name, held in state.names.items():
                if held is found:
                    state.names[name] = known
        return then, other

    def _name(self, node: ast.AST, name: str) -> Value:
        frame = self.frames[-1]
        found = self.here.names.get(frame.prefix + name)
        if found is not None:
            return self._usable(node, found)
        outside = frame.function.__globals__ if isinstance(frame.function, FunctionType) else {}
        closed = _closure(frame.function)
        if name in closed:
            return self.python(node, closed[name])
        if name in outside:
            return self.python(node, outside[name])
        if hasattr(builtins, name):
            return Python(getattr(builtins, name))
        self.refuse(node, f"`{name}` is not known here", f"set `{name}` before, on every path")

    def _usable(self, node: ast.AST, found: Value) -> Value:
        if isinstance(found, Unclear):
            self.refuse(node, found.why, found.instead)
        return found.of.value if isinstance(found, Narrowed) else found

    def python(self, node: ast.AST, found: object) -> Value:
        """A Python object from outside as a value."""
        match found:
            case bool():
                return Num.constant("bool", int(found))
            case Verdict():
                return Num.constant("verdict", int(found))
            case Selection():
                return Num.constant("selection", int(bool(found)))
            case Fixed():
                return Num.constant(type(found).__name__, int(found))
            case int():
                return self._exact(node, int(found))
            case None:
                return Nothing()
        return Python(found)

    def _attribute(self, node: ast.Attribute, of: Value, name: str) -> Value:
        self._untested(node.value, of)
        match of:
            case Thing.CONN:
                return self._conn(node, name)
            case Thing.GROUP if name == "table":
                return Thing.TABLE
            case SlotAt() if name == "listening":
                return Num("bool", self.select(of).operand, 0, 1)
            case Thing.METADATA:
                return self._metadata(node, name)
            case SocketAt(pointer):
                return self._socket(pointer, name)
            case RecordAt(pointer, made) if name in made.fields:
                field = made.fields[name]
                if field.length:
                    return ElementsAt(of, field)
                return self._read(pointer, field)
            case RecordAt(_, made):
                has = ", ".join(made.fields)
                self.refuse(node, f"map {made.name} has no field `{name}`", f"it has: {has}")
            case Python(found) if not isinstance(found, Map | Ring | FunctionType) and hasattr(
                found, name
            ):
                return self.python(node, getattr(found, name))
        return Method(of, name)

    def _conn(self, node: ast.Attribute, name: str) -> Value:
        if name in _CONN:
            return self.inline(node, _CONN[name], [Thing.METADATA])
        if name in _CONN_WORDS or name in _CONN_CALLS:
            return Method(Thing.CONN, name)
        if name in _DIRECT:
            return self._direct(name)
        known = sorted({*_CONN, *_CONN_WORDS, *_DIRECT} | {f"{one}()" for one in _CONN_CALLS})
        self.refuse(node, f"conn has no `{name}`", f"it has: {', '.join(known)}")

    def _call(self, node: ast.Call) -> Value:
        if node.keywords or any(isinstance(one, ast.Starred) for one in node.args):
            self.refuse(
                node, "a policy cannot use keyword arguments", "write the arguments in order"
            )
        callee = self.value(node.func)
        match callee:
            case Python(type() as made) if made in FIXED.values():
                return self._cast(node, made)
            case Python(FunctionType() as function):
                return self.inline(node, function, [self.value(one) for one in node.args])
            case Python(Policy() as called):
                return self.inline(node, called.function, [self.value(one) for one in node.args])
            case Method(of, name):
                return self._method(node, of, name)
        self.refuse(
            node.func,
            f"`{ast.unparse(node.func)}` cannot be called in a policy",
            "call a function of your own module, a map's get, or u32, u64, i64",
        )

    def _cast(self, node: ast.Call, made: type[Fixed]) -> Num:
        if len(node.args) != 1:
            self.refuse(node, f"{made.__name__} takes one number", f"write {made.__name__}(0)")
        found = self.value(node.args[0])
        if not isinstance(found, Num) or not (found.numeric or found.kind == "bool"):
            self._untested(node.args[0], found)
            self.refuse(node.args[0], "a number is needed here", "write an integer")
        if isinstance(found.operand, int):
            return Num.constant(made.__name__, int(made(found.operand)))
        low, high = made.range()
        if made.bits == 32 and not low <= found.low <= found.high <= high:
            to = self.var("u32")
            self.emit(ir.Binary(Alu.AND, to, found.operand, 0xFFFFFFFF, wide=False))
            return Num("u32", to, low, high)
        if low <= found.low <= found.high <= high:
            low, high = found.low, found.high
        return Num(made.__name__, found.operand, low, high)

    def _method(self, node: ast.Call, of: Value, name: str) -> Value:
        match of:
            case Thing.GROUP if name == "slot" and len(node.args) == 1:
                return SlotAt(self._slot_number(node.args[0]))
            case SlotAt() if name == "select" and not node.args:
                return self.select(of)
            case Thing.TABLE if name == "select" and len(node.args) == 1:
                number = self._to(node.args[0], self.number(node.args[0]), "u32")
                return self.inline(node, common.by_table, [Thing.GROUP, number])
            case Thing.CONN if name in _CONN_CALLS and not node.args:
                kind = "u64" if name == "now_ns" else "u32"
                return self._any(kind, self.call(_CONN_CALLS[name], kind=kind))
            case Thing.METADATA:
                offset, octets = (self.number(one).operand for one in node.args)
                assert isinstance(offset, int)
                assert isinstance(octets, int)
                return self._segment(name, offset, octets)
            case SocketAt(pointer):
                word = self.number(node.args[0]).operand
                return self._socket(pointer, f"{name}_{word}")
            case Python(Ring() as ring) if name == "put" and len(node.args) == len(ring.fields):
                return self.put(node, ring, [self.number(one) for one in node.args])
            case Python(Map() as made) if name == "get" and len(node.args) == 1:
                return self.lookup(node, made, self.number(node.args[0]))
        self.refuse(
            node,
            f"`{ast.unparse(node.func)}` cannot be called like this",
            "docs/POLICY.md lists the possible calls",
        )

    def _slot_number(self, node: ast.expr) -> Num:
        return self._to(node, self.number(node), "u32")

    def _subscript(self, node: ast.Subscript, of: Value, index: ast.expr) -> Value:
        self._untested(node.value, of)
        match of:
            case ElementsAt():
                return self._read(*self.element(index, of, self.number(index)))
            case Method(Thing.CONN, name) if name in _CONN_WORDS:
                word = self.number(index)
                if not isinstance(word.operand, int) or not 0 <= word.operand < 4:
                    self.refuse(index, "an address has the words 0 to 3", "write a number")
                return self.inline(node, _CONN_WORDS[name], [Thing.METADATA, word])
            case Python(Map() as made):
                self.refuse(
                    node,
                    f"{made.name}[...] would fail if the key is missing",
                    f"write {made.name}.get(...) and test for None",
                )
        self.refuse(node, "this has no elements", "index an array field of a map's record")

    @abstractmethod
    def inline(
        self, node: ast.AST, function: Callable[..., object], arguments: list[Value]
    ) -> Value:
        """Write the function out here; what it returns.

        The one call upwards: a function consists of statements, and this storey has none.
        """


def _closure(function: object) -> dict[str, object]:
    if not isinstance(function, FunctionType) or not function.__closure__:
        return {}
    cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
    return {name: cell.cell_contents for name, cell in cells}
