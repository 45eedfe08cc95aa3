"""What a policy reaches in the kernel: its context, the segment, the sockets, listeners, maps."""

from __future__ import annotations

import ast

from segue.bpf.insn import Alu, Helper, Jump, Size
from segue.policy import ir
from segue.policy.arithmetic import Arithmetic
from segue.policy.builder import RETURNED
from segue.policy.emit import KEY_AT, RECORD_AT, VALUE_AT
from segue.policy.language import SOCKETS
from segue.policy.maps import Field, Kind, Map, Ring
from segue.policy.values import (
    FIXED,
    ElementsAt,
    Maybe,
    Method,
    Num,
    RecordAt,
    SlotAt,
    SocketAt,
    Thing,
    Value,
)

_SIZES = {one.octets: one for one in Size}
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
SELECTED, MISSED = "$selected", "$missed"


class Access(Arithmetic):
    """Loads, stores and helper calls."""

    def _direct(self, name: str) -> Num:
        match name:
            case "hash":
                return self.load(ir.Context(), _METADATA["hash"], Size.U32, "u32")
            case "cpu":
                return self._any("u32", self.call(Helper.GET_SMP_PROCESSOR_ID, kind="u32"))
            case "cookie":
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
        found = self.taken(ast.Pass())
        assert isinstance(found, Num)
        return found

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
        made.names[SELECTED] = slot.number
        gone.names[MISSED] = Num.constant("bool", 1)
        return self._yes_no(made, gone, "selection")

    def _segment(self, name: str, offset: int, octets: int) -> Maybe:
        """Bytes of the segment or the packet as a number, None when it has not so many."""
        if name == "packet":
            start = self.load(ir.Context(), _DATA, Size.U64, "pointer").operand
            end = self.load(ir.Context(), _DATA_END, Size.U64, "pointer").operand
            past = self.var("pointer")
            self.emit(ir.Binary(Alu.ADD, past, start, offset + octets, wide=True))
            missing, there = self.compare(Jump.GT, past, end)
            base: ir.Var | ir.StackAddress = start if isinstance(start, ir.Var) else past
            at = offset
        else:
            base, at = ir.StackAddress(KEY_AT), 0
            answer = self.call(
                Helper.SKB_LOAD_BYTES_RELATIVE,
                ir.Context(),
                offset,
                base,
                octets,
                _HDR_START_NET,
            )
            missing, there = self.compare(Jump.NE, answer, 0)
        assert there is not None
        assert missing is not None
        present, held = self.var("bool"), self.var("u32")
        self.state = there
        found = self.load(base, at, _SIZES[octets], "u32")
        if octets > 1:
            found = self._host_order(found, 8 * octets)
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
            self.refuse(
                node, f"map {made.name} is an array, whose keys cannot be deleted", "set it to 0"
            )
        self._store_key(node, made, key)
        self.call(Helper.MAP_DELETE_ELEM, ir.MapAddress(made.name), ir.StackAddress(KEY_AT))

    def _fits(self, node: ast.AST, field: Field, value: Num) -> None:
        if not 0 <= value.low <= value.high <= field.greatest:
            self.refuse(
                node,
                f"this is {value.kind} and may not fit in {field.octets} bytes",
                f"cut it down: & {field.greatest:#x}",
            )

    def _just_masked(self, index: ir.Var, length: int) -> bool:
        match self.here.block.ops[-1:]:
            case [(ir.Binary(op=Alu.AND, to=to, right=int(mask)), _)]:
                return to is index and 0 <= mask < length
            case _:
                return False

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
        masked, scaled, at = index.operand, self.var("u64"), self.var("pointer")
        if not self._just_masked(masked, field.length):
            # The verifier follows a mask, and not every way by which we know the bounds.
            masked = self.var("u32")
            self.emit(ir.Binary(Alu.AND, masked, index.operand, field.length - 1, wide=True))
        shift = field.octets.bit_length() - 1
        self.emit(ir.Binary(Alu.LSH, scaled, masked, shift, wide=True))
        self.emit(ir.Binary(Alu.ADD, at, scaled, pointer, wide=True))
        return at, inside

    def _read(self, pointer: ir.Var, field: Field) -> Num:
        return self.load(pointer, field.offset, _SIZES[field.octets], field.kind.__name__)

    def put(self, node: ast.AST, ring: Ring, values: list[Num]) -> Num:
        """``ring.put(...)``: whether there was room for the record."""
        self.maps[ring.name] = ring
        for field, value in zip(ring.fields.values(), values, strict=True):
            self._fits(node, field, value)
            at = ir.StackAddress(RECORD_AT)
            self.emit(ir.Store(at, field.offset, _SIZES[field.octets], value.operand))
        answer = self.call(
            Helper.RINGBUF_OUTPUT,
            ir.MapAddress(ring.name),
            ir.StackAddress(RECORD_AT),
            ring.value_bytes,
            0,
        )
        return self._yes_no(*self.compare(Jump.EQ, answer, 0))
