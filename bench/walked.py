"""Runs ``segue`` in this process under a call profile that SIGRTMIN switches on and off.

``python -m bench.walked FILE run ...`` is ``segue run ...``; each time the profile is switched off,
FILE holds what was counted meanwhile, as JSON: the files of Segue that were entered, the calls, and
the moves, which are calls from one file of Segue into another.  ``pass_on`` has, by file, the calls
of functions whose body only calls another one: code that a reader goes through and learns nothing.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import segue
from segue.cli.main import main

SOURCE = str(Path(segue.__file__).parent) + "/"


class Walk:
    """What one profile has counted."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.on = False
        self.calls: Counter[tuple[str, str]] = Counter()
        self.entered: Counter[CodeType] = Counter()

    def event(self, frame: FrameType, what: str, _: Any) -> None:
        """For sys.setprofile: a call."""
        if not self.on or what != "call" or not frame.f_code.co_filename.startswith(SOURCE):
            return
        back = frame.f_back
        while back is not None and not back.f_code.co_filename.startswith(SOURCE):
            back = back.f_back
        here = frame.f_code.co_filename.removeprefix(SOURCE)
        there = here if back is None else back.f_code.co_filename.removeprefix(SOURCE)
        self.calls[there, here] += 1
        self.entered[frame.f_code] += 1

    def switch(self, *_: object) -> None:
        """Begin to count, or write down what was counted."""
        self.on = not self.on
        if self.on:
            self.calls.clear()
            self.entered.clear()
            return
        moves = sum(count for (a, b), count in self.calls.items() if a != b)
        passing = Counter[str]()
        for code, count in self.entered.items():
            if passes_on(code):
                passing[code.co_filename.removeprefix(SOURCE)] += count
        found = {
            "files": sorted({b for _, b in self.calls}),
            "calls": self.calls.total(),
            "moves": moves,
            "pass_on": dict(passing.most_common()),
            "edges": [[a, b, n] for (a, b), n in self.calls.most_common() if a != b],
        }
        beside = f"{self.where}.new"
        Path(beside).write_text(json.dumps(found))
        os.replace(beside, self.where)


def passes_on(code: CodeType) -> bool:
    """The function's body is nothing but one call of something else, returned or not."""
    key = code.co_filename, code.co_firstlineno
    if key not in _BODIES:
        _BODIES.update(_bodies(code.co_filename))
    body = _BODIES.get(key, [])
    if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr):
        return False
    value = body[0].value
    return isinstance(value, ast.Call | ast.Attribute) and not any(
        isinstance(one, ast.Call) for one in ast.walk(value) if one is not value
    )


_BODIES: dict[tuple[str, int], list[ast.stmt]] = {}


def _bodies(path: str) -> dict[tuple[str, int], list[ast.stmt]]:
    found = {}
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found[path, first] = body
    return found


if __name__ == "__main__":
    walk = Walk(sys.argv[1])
    signal.signal(signal.SIGRTMIN, walk.switch)
    sys.setprofile(walk.event)
    sys.exit(main(sys.argv[2:]))
