"""The compiler's five storeys share one ``self``: none may lean on one above it unseen."""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest

from segue.policy.access import Access
from segue.policy.arithmetic import Arithmetic
from segue.policy.builder import Builder
from segue.policy.expressions import Expressions
from segue.policy.statements import Statements

STOREYS: list[type] = [Builder, Arithmetic, Access, Expressions, Statements]


def set_in_init(storey: type) -> set[str]:
    """Attributes that its instances have from the beginning."""
    names: set[str] = set()
    for one in storey.__mro__:
        if "__init__" in vars(one) and one is not object:
            names |= {name for name, stored in used(one) if stored}
    return names


def used(storey: type) -> set[tuple[str, bool]]:
    """What its own text says after ``self.``, and whether that is written to."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(storey)))
    return {
        (node.attr, isinstance(node.ctx, ast.Store))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize("storey", STOREYS)
def test_a_storey_uses_itself_and_those_below(storey: type) -> None:
    """Whatever it calls on ``self`` is defined in it or below, or declared there as abstract."""
    known = {name for one in storey.__mro__ for name in vars(one)} | set_in_init(storey)
    assert {name for name, _ in used(storey)} <= known


def test_the_one_call_upwards_is_declared() -> None:
    """Only the top can be made, and only ``inline`` is filled in above where it is declared."""
    assert Expressions.__abstractmethods__ == {"inline"}
    assert not inspect.isabstract(Statements)
    for number, upper in enumerate(STOREYS):
        for lower in STOREYS[:number]:
            both = {name for name in vars(upper).keys() & vars(lower).keys() if name[:2] != "__"}
            assert both - {"_abc_impl"} <= {"inline"}, (upper, lower)
