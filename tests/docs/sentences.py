"""The sentences that Segue may print, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.docs.pages import ROOT

ANYTHING = "…"  # in the place of what is known only when it is printed


def _constants(tree: ast.AST) -> Iterator[str]:
    for one in ast.walk(tree):
        if isinstance(one, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else ANYTHING
                for part in one.values
            )
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def sentences() -> set[str]:
    """Every string in the source, with ANYTHING for what is put into it."""
    files = (ROOT / "src" / "segue").rglob("*.py")
    return {text for one in files for text in _constants(ast.parse(one.read_text()))}
