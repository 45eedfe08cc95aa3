"""Expressions of a policy: arithmetic, names, attributes and calls."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from types import FunctionType

from segue.bpf.insn import Alu, Helper, Jump, Size
from segue.policy import connection, ir
from segue.policy.arithmetic import Arithmetic
from segue.policy.builder import RETURNED, State
from segue.policy.emit import KEY_AT, VALUE_AT
from segue.policy.integers import Fixed
from segue.policy.language import SOCKETS, Policy, Selection, Verdict
from segue.policy.maps import Field, Kind, Map
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

_SIZES = {one.octets: one for one in Size}
_COMPARED: dict[type[ast.cmpop], tuple[Jump, Jump, Callable[[int, int], bool]]] = {
    ast.Eq: (Jump.EQ, Jump.EQ, operator.eq),
    ast.NotEq: (Jump.NE, Jump.NE, operator.ne),
    ast.Lt: (Jump.LT, Jump.SLT, operator.lt),
    ast.LtE: (Jump.LE, Jump.SLE, operator.le),
    ast.Gt: (Jump.GT, Jump.SGT, operator.gt),
    ast.GtE: (Jump.GE, Jump.SGE, operator.ge),
}
# struct sk_reuseport_md and struct bpf_sock (include/uapi/linux/bpf.h).
_METADATA = {"ip_protocol": 24, "bind_inany": 28, "hash": 32}
_DATA, _DATA_END, _ETH_PROTOCOL, _SK, _MIGRATING_SK = 0, 8, 20, 40, 48
_SOCKET = {"family": 4, "src_port": 44, "state": 72}
_SOCKET_NETWORK = {"src_ip4": 24, "dst_ip4": 52} | {
    f"{end}_ip6_{word}": start + 4 * word
    for end, start in (("src", 28), ("dst", 56))
    for word in range(4)
}
_DST_PORT = 48
_HDR_START_NET = 1
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
SELECTED, MISSED = "$selected", "$missed"
MIGRATING_SK = "$migrating_sk"


class Expressions(Arithmetic):
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
            f"a policy has no {type(node).__name__}",
            "docs/POLICY.md lists the expressions there are",
        )

    def number(self, node: ast.expr) -> Num:
        """The same, which must be a number."""
        found = self.value(node)
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
        for state, said in ((then, 1), (other, 0)):
            if state is not None:
                state.names[RETURNED] = Num.constant("bool", said)
        self.join([then, other])
        return self._taken_number(node)

    def _taken_number(self, node: ast.AST) -> Num:
        found = self.taken(node)
        assert isinstance(found, Num)
        return found

    def taken(self, node: ast.AST) -> Value:
        """What the paths that joined here brought along."""
        found = self.here.names.pop(RETURNED, Nothing())
        if isinstance(found, Unclear):
            self.refuse(node, "this is not one kind of value on all paths", "use u32(...) on each")
        return found

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
        left_value = self.value(node.left)
        if isinstance(left_value, Num) and left_value.kind == "verdict":
            right_value = self.value(right)
            if isinstance(right_value, Num) and right_value.kind == "verdict":
                return self._split(unsigned, plain, left_value.operand, right_value.operand)
        left_number, right_number = self.number(node.left), self.number(right)
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
            case Python(found) if not isinstance(found, Map | FunctionType) and hasattr(
                found, name
            ):
                return self.python(node, getattr(found, name))
        return Method(of, name)

    def _read(self, pointer: ir.Var, field: Field) -> Num:
        return self.load(pointer, field.offset, _SIZES[field.octets], field.kind.__name__)

    def _conn(self, node: ast.Attribute, name: str) -> Value:
        if name in _CONN:
            return self.inline(node, _CONN[name], [Thing.METADATA])
        if name in _CONN_WORDS or name in _CONN_CALLS:
            return Method(Thing.CONN, name)
        if name in _DIRECT:
            return self._direct(name)
        known = sorted({*_CONN, *_CONN_WORDS, *_DIRECT} | {f"{one}()" for one in _CONN_CALLS})
        self.refuse(node, f"conn has no `{name}`", f"it has: {', '.join(known)}")

    def _direct(self, name: str) -> Num:
        if name == "hash":
            return self.load(ir.Context(), _METADATA["hash"], Size.U32, "u32")
        if name == "cpu":
            cpu = self.call(Helper.GET_SMP_PROCESSOR_ID, kind="u32")
            return Num("u32", cpu, 0, u32_max())
        if name == "cookie":
            listener = self.load(ir.Context(), _SK, Size.U64, "pointer").operand
            return self._any("u64", self.call(Helper.GET_SOCKET_COOKIE, listener))
        # The child's or the request's own, when there is one.
        sk = self._migrating_sk()
        then, other = self.compare(Jump.NE, sk.present, 0)
        assert then is not None
        assert other is not None
        self.state = then
        cookie = self.call(Helper.GET_SOCKET_COOKIE, sk.present)
        self.here.names[RETURNED] = self._any("u64", cookie)
        other.names[RETURNED] = Num.constant("u64", 0)
        self.join([self.state, other])
        return self._taken_number(ast.Pass())

    def _migrating_sk(self) -> Maybe:
        pointer = self.load(ir.Context(), _MIGRATING_SK, Size.U64, "pointer").operand
        assert isinstance(pointer, ir.Var)
        return Maybe(pointer, SocketAt(pointer), "migrating_sk")

    def _metadata(self, node: ast.Attribute, name: str) -> Value:
        if name == "migrating_sk":
            return self._migrating_sk()
        if name == "eth_protocol":
            raw = self.load(ir.Context(), _ETH_PROTOCOL, Size.U32, "u32")
            return self._host_order(raw, 16)
        if name in _METADATA:
            return self.load(ir.Context(), _METADATA[name], Size.U32, "u32")
        assert name in {"packet", "network"}, ast.unparse(node)
        return Method(Thing.METADATA, name)

    def _socket(self, pointer: ir.Var, name: str) -> Value:
        if name in _SOCKET:
            return self.load(pointer, _SOCKET[name], Size.U32, "u32")
        if name in _SOCKET_NETWORK:
            return self._host_order(self.load(pointer, _SOCKET_NETWORK[name], Size.U32, "u32"), 32)
        if name == "dst_port":
            return self._host_order(self.load(pointer, _DST_PORT, Size.U32, "u32"), 16)
        return Method(SocketAt(pointer), name)

    def _host_order(self, raw: Num, bits: int) -> Num:
        to = self.var("u32")
        assert isinstance(raw.operand, ir.Var)
        self.emit(ir.HostOrder(to, raw.operand, bits))
        return Num("u32", to, 0, (1 << bits) - 1)

    def _call(self, node: ast.Call) -> Value:
        if node.keywords or any(isinstance(one, ast.Starred) for one in node.args):
            self.refuse(node, "a policy calls by position only", "write the arguments in order")
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
                from segue.policy import steering  # noqa: PLC0415  written in what this compiles

                number = self._to(node.args[0], self.number(node.args[0]), "u32")
                return self.inline(node, steering.by_table, [Thing.GROUP, number])
            case Thing.CONN if name in _CONN_CALLS and not node.args:
                kind = "u64" if name == "now_ns" else "u32"
                return self._any(kind, self.call(_CONN_CALLS[name], kind=kind))
            case Thing.METADATA:
                return self._segment(node, name)
            case SocketAt(pointer):
                word = self.number(node.args[0]).operand
                return self._socket(pointer, f"{name}_{word}")
            case Python(Map() as made) if name == "get" and len(node.args) == 1:
                return self.lookup(node, made, self.number(node.args[0]))
        self.refuse(
            node,
            f"`{ast.unparse(node.func)}` cannot be called so",
            "docs/POLICY.md lists the calls there are",
        )

    def _slot_number(self, node: ast.expr) -> Num:
        return self._to(node, self.number(node), "u32")

    def _to(self, node: ast.expr, found: Num, kind: str) -> Num:
        """As this kind; a wider number only when it fits for certain."""
        low, high = FIXED[kind].range()
        if not low <= found.low <= found.high <= high:
            self.refuse(
                node,
                f"this is {found.kind} and may not fit in {kind}",
                f"cut it down: {kind}(...)",
            )
        return Num(kind, found.operand, found.low, found.high)

    def select(self, slot: SlotAt) -> Num:
        """Try a slot; remember whether it had a listener."""
        self.maps[SOCKETS.name] = SOCKETS
        key = ir.StackAddress(KEY_AT)
        self.emit(ir.Store(key, 0, Size.U32, slot.number.operand))
        arguments = (ir.Context(), ir.MapAddress(SOCKETS.name), key, 0)
        answer = self.call(Helper.SK_SELECT_REUSEPORT, *arguments)
        made, gone = self.compare(Jump.EQ, answer, 0)
        assert made is not None
        assert gone is not None
        made.names |= {SELECTED: slot.number, RETURNED: Num.constant("selection", 1)}
        gone.names |= {
            MISSED: Num.constant("bool", 1),
            RETURNED: Num.constant("selection", 0),
        }
        self.join([made, gone])
        return self._taken_number(ast.Pass())

    def _segment(self, node: ast.Call, name: str) -> Maybe:
        """Bytes of the segment or the packet as a number, None when it has not so many."""
        offset, size = (self.number(one) for one in node.args)
        assert isinstance(offset.operand, int)
        assert isinstance(size.operand, int)
        if name == "packet":
            start = self.load(ir.Context(), _DATA, Size.U64, "pointer").operand
            end = self.load(ir.Context(), _DATA_END, Size.U64, "pointer").operand
            past = self.var("pointer")
            self.emit(ir.Binary(Alu.ADD, past, start, offset.operand + size.operand, wide=True))
            missing, there = self.compare(Jump.GT, past, end)
            base: ir.Var | ir.StackAddress = start if isinstance(start, ir.Var) else past
            at = offset.operand
        else:
            base, at = ir.StackAddress(KEY_AT), 0
            answer = self.call(
                Helper.SKB_LOAD_BYTES_RELATIVE,
                ir.Context(),
                offset.operand,
                base,
                size.operand,
                _HDR_START_NET,
            )
            missing, there = self.compare(Jump.NE, answer, 0)
        assert there is not None
        assert missing is not None
        present, held = self.var("bool"), self.var("u32")
        self.state = there
        found = self.load(base, at, _SIZES[size.operand], "u32")
        if size.operand > 1:
            found = self._host_order(found, 8 * size.operand)
        self.emit(ir.Move(present, 1))
        self.emit(ir.Move(held, found.operand))
        missing.block.ops += [(ir.Move(present, 0), self.line), (ir.Move(held, 0), self.line)]
        self.join([self.state, missing])
        return Maybe(present, Num("u32", held, found.low, found.high), name)

    def lookup(self, node: ast.AST, made: Map, key: Num) -> Maybe:
        """``map.get(key)``."""
        self._store_key(node, made, key)
        pointer = self.call(
            Helper.MAP_LOOKUP_ELEM,
            ir.MapAddress(made.name),
            ir.StackAddress(KEY_AT),
            kind="pointer",
        )
        if made.scalar is None:
            return Maybe(pointer, RecordAt(pointer, made), made.name)
        # Read at once, as in plain Python: a later change of the map does not show.
        there, gone = self.compare(Jump.NE, pointer, 0)
        assert there is not None
        assert gone is not None
        self.state = there
        read = self._read(pointer, made.scalar)
        present, held = self.var("bool"), self.var(read.kind)
        for state, number, value in ((there, 1, read.operand), (gone, 0, 0)):
            moves = (ir.Move(present, number), ir.Move(held, value))
            state.block.ops += [(one, self.line) for one in moves]
        self.join([there, gone])
        return Maybe(present, Num(read.kind, held, read.low, read.high), made.name)

    def _store_key(self, node: ast.AST, made: Map, key: Num) -> None:
        if made.kind is Kind.SOCKETS:
            self.refuse(node, "a program cannot read the listeners", "use group.slot(n).listening")
        known = self.maps.setdefault(made.name, made)
        if known is not made:
            self.refuse(node, f"there are two maps called {made.name}", "give one another name")
        where = node.args[0] if isinstance(node, ast.Call) else node
        if not isinstance(where, ast.expr):
            where = ast.Constant(0)
        key = self._to(where, key, made.key.__name__)
        size = _SIZES[made.key_bytes]
        self.emit(ir.Store(ir.StackAddress(KEY_AT), 0, size, key.operand))

    def update(self, node: ast.AST, made: Map, key: Num, value: Num) -> None:
        """``map[key] = value``."""
        if made.scalar is None:
            self.refuse(node, f"map {made.name} holds records", "get one and set its fields")
        self._store_key(node, made, key)
        self._fits(node, made.scalar, value)
        place = ir.StackAddress(VALUE_AT)
        self.emit(ir.Store(place, 0, _SIZES[made.scalar.octets], value.operand))
        key_at = ir.StackAddress(KEY_AT)
        self.call(Helper.MAP_UPDATE_ELEM, ir.MapAddress(made.name), key_at, place, 0)

    def delete(self, node: ast.AST, made: Map, key: Num) -> None:
        """``del map[key]``."""
        if made.kind is not Kind.HASH:
            self.refuse(node, f"map {made.name} is an array, whose keys stay", "set it to 0")
        self._store_key(node, made, key)
        self.call(Helper.MAP_DELETE_ELEM, ir.MapAddress(made.name), ir.StackAddress(KEY_AT))

    def _fits(self, node: ast.AST, field: Field, value: Num) -> None:
        if not 0 <= value.low <= value.high <= field.greatest:
            self.refuse(
                node,
                f"this is {value.kind} and may not fit in {field.octets} bytes",
                f"cut it down: & {field.greatest:#x}",
            )

    def write(self, node: ast.AST, pointer: ir.Var, field: Field, value: Num) -> None:
        """Set a field."""
        self._fits(node, field, value)
        self.emit(ir.Store(pointer, field.offset, _SIZES[field.octets], value.operand))

    def element(self, node: ast.expr, array: ElementsAt, index: Num) -> tuple[ir.Var, Field]:
        """Where an array's element is, as a field of a pointer of its own."""
        field = array.field
        if not 0 <= index.low <= index.high < field.length:
            self.refuse(
                node,
                f"this may be outside `{field.name}`, which has {field.length} elements",
                f"bound it: % {field.length}",
            )
        inside = Field(field.name, field.offset, field.octets, 0)
        pointer = array.record.pointer
        if isinstance(index.operand, int):
            moved = Field(field.name, field.offset + index.operand * field.octets, field.octets, 0)
            return pointer, moved
        # The verifier follows a mask, and not every way by which we know the bounds.
        masked, scaled, at = self.var("u32"), self.var("u64"), self.var("pointer")
        self.emit(ir.Binary(Alu.AND, masked, index.operand, field.length - 1, wide=True))
        shift = field.octets.bit_length() - 1
        self.emit(ir.Binary(Alu.LSH, scaled, masked, shift, wide=True))
        self.emit(ir.Binary(Alu.ADD, at, scaled, pointer, wide=True))
        return at, inside

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
                    f"{made.name}[...] would fail where nothing is",
                    f"write {made.name}.get(...) and test for None",
                )
        self.refuse(node, "this has no elements", "index an array field of a map's record")

    def inline(
        self, node: ast.AST, function: Callable[..., object], arguments: list[Value]
    ) -> Value:
        """Write the function out here; what it returns."""
        raise NotImplementedError


def u32_max() -> int:
    """The greatest u32."""
    return (1 << 32) - 1


def _closure(function: object) -> dict[str, object]:
    if not isinstance(function, FunctionType) or not function.__closure__:
        return {}
    cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
    return {name: cell.cell_contents for name, cell in cells}
