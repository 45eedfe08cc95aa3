"""Every test says what it claims, and every file and class of the tests what it is for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def unsaid(source: str) -> list[str]:
    """What lacks a sentence: the file, its public classes, its tests.

    Of helpers and fixtures the name is enough: they are read where they are used.
    """
    tree = ast.parse(source)
    return [name for name, node in owing(tree) if not is_sentence(ast.get_docstring(node))]


def owing(tree: ast.Module) -> Iterator[tuple[str, ast.Module | ast.ClassDef | _Function]]:
    if tree.body:
        yield "the file", tree
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | _Function):
            continue
        public_class = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if public_class or node.name.startswith("test_"):
            yield node.name, node


def is_sentence(text: str | None) -> bool:
    """Two words at least: a name, or a reference alone, claims nothing."""
    return text is not None and len(text.split()) > 1 and text.rstrip().endswith((".", "?"))


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_every_test_states_its_claim(path: Path) -> None:
    """In one sentence at least, as do the file and the classes in it."""
    assert unsaid(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "lacking"),
    [
        ("", []),
        ("x = 1\n", ["the file"]),
        ('"""A file of tests."""\ndef helper(): ...\nclass _Own: ...\n', []),
        ('"""A file of tests."""\ndef test_it(): ...\n', ["test_it"]),
        ('"""A file of tests."""\nasync def test_it():\n    """Waits."""\n', ["test_it"]),
        ('"""A file of tests."""\ndef test_it():\n    """It holds."""\n', []),
        ('"""A file of tests."""\nclass Double: ...\n', ["Double"]),
        (
            '"""A file of tests."""\nclass TestIt:\n    """The lot."""\n    def test_a(): ...\n',
            ["test_a"],
        ),
    ],
)
def test_what_is_unsaid_is_found(source: str, lacking: list[str]) -> None:
    """The file, a class or a test without a sentence; not a helper, nor what is private."""
    assert unsaid(source) == lacking
