"""The syntax trees of a policy's functions, found by what is known of the functions at run time."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable
from types import FunctionType

from segue.errors import UsageError


class Sources:
    """Reads each file once: a policy calls the same few functions over and over.

    For one compilation: a file may be another by the next, and trees take more memory than they are
    worth to a supervisor.
    """

    def __init__(self) -> None:
        self._functions: dict[str, dict[tuple[str, int], ast.FunctionDef]] = {}

    def definition(self, function: Callable[..., object]) -> tuple[ast.FunctionDef, str]:
        """The syntax tree of a function, with its file's line numbers, and the file.

        The tree is read and not changed: it is the same each time.  Raises UsageError when the
        source cannot be found.
        """
        if not isinstance(function, FunctionType):
            raise UsageError(f"{function!r} is not a function")
        file = function.__code__.co_filename
        if file not in self._functions:
            text = "".join(linecache.getlines(file, function.__globals__))
            self._functions[file] = _functions(text)
        found = self._functions[file].get((function.__name__, function.__code__.co_firstlineno))
        if found is None:
            raise UsageError(f"the source of {function.__name__} in {file} cannot be read")
        return found, file


def _functions(text: str) -> dict[tuple[str, int], ast.FunctionDef]:
    """Those in it, by name and first line, decorators included."""
    return {
        (node.name, min([node.lineno, *(one.lineno for one in node.decorator_list)])): node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
