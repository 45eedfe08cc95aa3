"""What stands between ``%{`` and ``}%``: assertions about TCP_INFO, judged without executing them.

Of Python's language only assertions, comparisons, arithmetic of whole numbers and the words of
``and``, ``or`` and ``not`` are understood; ``print(...)`` is passed over.
"""

from __future__ import annotations

import ast
import operator
import textwrap
import warnings
from collections.abc import Callable, Mapping

from segue.errors import UsageError

_MOST = 2**64
_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Div: operator.floordiv, ast.Mod: operator.mod,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_COMPARED: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


def names_in(text: str) -> set[str]:
    """The names that the assertions ask for.  Raises UsageError."""
    return {
        one.id
        for statement in _statements(text)
        if isinstance(statement, ast.Assert)
        for one in ast.walk(statement.test)
        if isinstance(one, ast.Name)
    }


def first_failure(text: str, values: Mapping[str, int]) -> str | None:
    """The first assertion that does not hold, with the values in it; None when all do.

    Raises UsageError for what is no such assertion, and for a name without a value.
    """
    for statement in _statements(text):
        if isinstance(statement, ast.Assert) and not _value(statement.test, values):
            asked = sorted(one.id for one in ast.walk(statement.test) if isinstance(one, ast.Name))
            told = ", ".join(f"{name} is {values[name]}" for name in dict.fromkeys(asked))
            return f"{ast.unparse(statement.test)}: {told}"
    return None


def _statements(text: str) -> list[ast.stmt]:
    try:
        with warnings.catch_warnings(action="ignore"):
            made = ast.parse(textwrap.dedent(text.strip("\n")).strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError("between %{ and }% stand assertions in Python's language") from None
    for one in made.body:
        printed = isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
        if not isinstance(one, ast.Assert) and not printed:
            raise UsageError(f"only assertions are judged, and {ast.unparse(one)[:60]!r} is none")
    return made.body


def _value(node: ast.expr, values: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name):
            raise UsageError(f"nothing has the name {name} here")
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return not _value(inner, values)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, values)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(one, values) for one in parts)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return any(_value(one, values) for one in parts)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            second = _value(right, values)
            if second == 0 and isinstance(sign, ast.Div | ast.FloorDiv | ast.Mod):
                raise UsageError(f"{ast.unparse(node)!r} divides by zero")
            made = _BINARY[type(sign)](_value(left, values), second)
            if abs(made) > _MOST:
                raise UsageError(f"{ast.unparse(node)!r} is too large")
            return made
        case ast.Compare(left=left, ops=signs, comparators=others):
            sides = [_value(one, values) for one in (left, *others)]
            pairs = zip(signs, sides, sides[1:], strict=False)
            if all(type(sign) in _COMPARED for sign in signs):
                return all(_COMPARED[type(sign)](first, second) for sign, first, second in pairs)
    raise UsageError(f"{ast.unparse(node)[:60]!r} is nothing that an assertion may ask")
