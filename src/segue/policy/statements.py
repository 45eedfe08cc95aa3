"""Statements of a policy: its function, and those it calls, written out into blocks."""

from __future__ import annotations

import ast
from collections.abc import Callable

from segue.bpf.insn import Jump
from segue.policy import common, ir
from segue.policy.access import MISSED, SELECTED
from segue.policy.builder import RETURNED, Frame, State
from segue.policy.builtin import UNSELECTED
from segue.policy.expressions import Expressions
from segue.policy.maps import Map
from segue.policy.plain import Policy
from segue.policy.sources import Sources
from segue.policy.values import ElementsAt, Nothing, Num, Python, RecordAt, Thing, Value

MOST_ROUNDS = 64  # a loop is written out, so each round costs instructions
MOST_CALLS = 16  # deep, which finds a function that calls itself


class Statements(Expressions):
    """A whole program."""

    def __init__(self) -> None:
        super().__init__()
        self.sources = Sources()

    def program(self, policy: Policy, *, traced: bool) -> ir.Block:
        """Its entry: the pins, the policy, the counting, and when ``traced`` the telling."""
        self.here.names |= {
            SELECTED: Num.constant("u32", UNSELECTED),
            MISSED: Num.constant("bool", 0),
        }
        tree, file = self.sources.definition(policy.function)
        self.frames.append(Frame(policy.function, file, "policy."))
        self.line = tree.lineno
        self.line = 0
        pinned = self.inline(tree, common.pinned, [Thing.CONN, Thing.GROUP])
        assert isinstance(pinned, Num)
        held, free = self.compare(Jump.NE, pinned.operand, 0)
        assert held is not None
        held.names[RETURNED] = Num.constant("verdict", 1)
        self.state, self.line = free, tree.lineno
        answer = self._run(tree, [Thing.CONN, Thing.GROUP])
        if not isinstance(answer, Num):
            self.refuse(
                tree, "the policy does not end with a verdict", "end with: return Verdict.PASS"
            )
        self.line = 0
        self.here.names[RETURNED] = answer
        self.join([held, self.state])
        answer = self.inline(tree, common.without_reset, [Thing.CONN, self.taken(tree)])
        assert isinstance(answer, Num)
        names = self.here.names
        tell = Num.constant("bool", int(traced))
        end: list[Value] = [Thing.CONN, names[SELECTED], names[MISSED], answer, tell]
        self.inline(tree, common.finish, end)
        self.end(ir.Leave(answer.operand))
        return self.entry

    def inline(
        self, node: ast.AST, function: Callable[..., object], arguments: list[Value]
    ) -> Value:
        """As in Expressions: the function's statements, in a frame of their own."""
        if len(self.frames) > MOST_CALLS:
            self.refuse(node, "the calls never end", "a function cannot call itself: use a loop")
        tree, file = self.sources.definition(function)
        if len(tree.args.args) != len(arguments) or tree.args.vararg or tree.args.kwonlyargs:
            self.refuse(
                node,
                f"{tree.name} takes {len(tree.args.args)} arguments, not {len(arguments)}",
                "give each, by position",
            )
        self.blocks += 1
        self.frames.append(Frame(function, file, f"{tree.name}{self.blocks}."))
        try:
            return self._run(tree, arguments)
        finally:
            self.frames.pop()

    def _run(self, tree: ast.FunctionDef, arguments: list[Value]) -> Value:
        frame = self.frames[-1]
        if len(tree.args.args) != len(arguments):
            self.refuse(tree, "a policy takes conn and group", "write def NAME(conn, group):")
        for parameter, value in zip(tree.args.args, arguments, strict=True):
            self.here.names[frame.prefix + parameter.arg] = value
        self._body(tree.body)
        if self.state is not None:
            if len(self.frames) == 1:
                self.refuse(
                    tree.body[-1],
                    "the policy can end here without a verdict",
                    "add: return Verdict.PASS",
                )
            self.here.names[RETURNED] = Nothing()
            frame.returned.append(self.here)
        for state in frame.returned:
            gone = [name for name in state.names if name.startswith(frame.prefix)]
            for name in gone:
                del state.names[name]
        self.join(frame.returned)
        return self.taken(tree)

    def _body(self, body: list[ast.stmt]) -> None:
        for node in body:
            if self.state is None:
                return
            if len(self.frames) == 1:
                self.line = node.lineno
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Return(value):
                self._return(node, value)
            case ast.If(test, body, orelse):
                self._if(test, body, orelse)
            case ast.Assign([target], value):
                self._assign(target, self.value(value))
            case ast.AugAssign(target, op, value):
                read = ast.copy_location(_as_read(target), target)
                now = self.number(read)
                self._assign(target, self.calculate(node, op, now, self.number(value)))
            case ast.For(ast.Name(name), over, body, []):
                self._for(name, over, body)
            case ast.Break() if self.frames[-1].broken:
                self.frames[-1].broken[-1].append(self.here)
                self.state = None
            case ast.Continue() if self.frames[-1].continued:
                self.frames[-1].continued[-1].append(self.here)
                self.state = None
            case ast.Delete([ast.Subscript(of, key)]):
                made = self.value(of)
                if not isinstance(made, Python) or not isinstance(made.object, Map):
                    self.refuse(node, "del is for a map's key", "write del NAME[key]")
                self.delete(key, made.object, self.number(key))
            case ast.Expr(ast.Constant(str())) | ast.Pass():
                pass
            case ast.Expr(ast.Call() as call):
                self.value(call)
            case ast.While():
                self.refuse(
                    node,
                    "a policy has no while: the kernel must see that it ends",
                    "write for NAME in range(N):",
                )
            case _:
                self.refuse(
                    node,
                    f"a policy has no {type(node).__name__.lower()}",
                    "docs/POLICY.md lists the possible statements",
                )

    def _return(self, node: ast.Return, value: ast.expr | None) -> None:
        found = Nothing() if value is None else self.value(value)
        if len(self.frames) == 1:
            if isinstance(found, Num) and found.kind == "selection":
                found = Num.constant("verdict", 1)
            elif not isinstance(found, Num) or found.kind != "verdict":
                self.refuse(
                    value or node,
                    "a policy must return a selection or a verdict",
                    "return group.slot(n).select(), Verdict.PASS or Verdict.DROP",
                )
        self.here.names[RETURNED] = found
        self.frames[-1].returned.append(self.here)
        self.state = None

    def _if(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        ends: list[State | None] = []
        for state, part in zip(self.test(test), (body, orelse), strict=True):
            self.state = state
            self._body(part)
            ends.append(self.state)
        self.join(ends)

    def _assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(name):
                self.here.names[self.frames[-1].prefix + name] = value
                return
            case ast.Attribute(of, name):
                record = self.value(of)
                self._untested(of, record)
                if isinstance(record, RecordAt) and name in record.map.fields:
                    field = record.map.fields[name]
                    if not field.length:
                        self.write(target, record.pointer, field, self._number(target, value))
                        return
            case ast.Subscript(of, index):
                whole = self.value(of)
                self._untested(of, whole)
                if isinstance(whole, ElementsAt):
                    place = self.element(index, whole, self.number(index))
                    self.write(target, *place, self._number(target, value))
                    return
                if isinstance(whole, Python) and isinstance(whole.object, Map):
                    key = self.number(index)
                    self.update(target, whole.object, key, self._number(target, value))
                    return
        self.refuse(
            target,
            "this cannot be set",
            "set a local, a field of a map's record, or NAME[key] of a map",
        )

    def _number(self, node: ast.expr, value: Value) -> Num:
        if not isinstance(value, Num) or not value.numeric:
            self._untested(node, value)
            self.refuse(node, "only a number can be stored", "write 1 if ... else 0")
        return value

    def _for(self, name: str, over: ast.expr, body: list[ast.stmt]) -> None:
        if not (
            isinstance(over, ast.Call)
            and isinstance(over.func, ast.Name)
            and over.func.id == "range"
            and 1 <= len(over.args) <= 3
        ):
            self.refuse(over, "a policy loops over range only", "write for NAME in range(N):")
        bounds: list[int] = []
        for one in over.args:
            number = self.number(one).operand
            if not isinstance(number, int):
                self.refuse(
                    one,
                    "the rounds of a loop are known when it is compiled",
                    "write a number, and break out of the loop",
                )
            bounds.append(number)
        if len(bounds) == 3 and bounds[2] == 0:
            self.refuse(over, "a step of 0 never ends", "write another step")
        rounds = range(*bounds)
        if len(rounds) > MOST_ROUNDS:
            self.refuse(
                over,
                f"{len(rounds)} rounds are too many: a loop is written out",
                f"write at most {MOST_ROUNDS}",
            )
        frame = self.frames[-1]
        frame.broken.append([])
        for number in rounds:
            if self.state is None:
                break
            self.here.names[frame.prefix + name] = Num.constant("int", number)
            frame.continued.append([])
            self._body(body)
            self.join([self.state, *frame.continued.pop()])
        self.join([self.state, *frame.broken.pop()])


def _as_read(target: ast.expr) -> ast.expr:
    """The same place, to be read and not set."""
    copied = ast.parse(ast.unparse(target), mode="eval").body
    for part in ast.walk(copied):
        ast.copy_location(part, target)
    return copied
