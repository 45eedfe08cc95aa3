"""The page of the public Python names: their signatures and docstrings."""

from __future__ import annotations

import inspect
from enum import EnumType
from importlib import import_module
from typing import Any

import segue

_ERRORS = "Errors"
_SECTIONS = {
    "For servers": ("segue.asgi.Draining", "segue.wsgi.Draining", "segue.draining"),
    "For policies": tuple(
        f"segue.{name}"
        for name in ("policy", "Selection", "Migrating", "Verdict", "Map", "u32", "u64", "i64")
    ),
    "What a look shows": tuple(
        f"segue.{name}" for name in ("Address", "Group", "Listener", "Connection")
    ),
    _ERRORS: tuple(
        f"segue.{name}"
        for name in sorted(segue.__all__)
        if isinstance(getattr(segue, name), type) and issubclass(getattr(segue, name), Exception)
    ),
}


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


class _Plain:
    """An annotation that is shown without quotation marks."""

    def __init__(self, annotation: object) -> None:
        self._text = annotation if isinstance(annotation, str) else None
        self._annotation = annotation

    def __repr__(self) -> str:
        return self._text or inspect.formatannotation(self._annotation)


def _plain(annotation: Any) -> Any:
    return annotation if annotation is inspect.Signature.empty else _Plain(annotation)


def _signature(path: str, what: Any) -> str:
    name = path.rpartition(".")[2]
    if isinstance(what, EnumType):
        return "\n".join(f"{name}.{member}" for member in what.__members__)
    try:
        found = inspect.signature(what)
    except (TypeError, ValueError):
        return name
    each = [one.replace(annotation=_plain(one.annotation)) for one in found.parameters.values()]
    result = inspect.Signature.empty if isinstance(what, type) else _plain(found.return_annotation)
    return f"{name}{found.replace(parameters=each, return_annotation=result)}"


def names() -> list[str]:
    """Everything on the page."""
    return [path for paths in _SECTIONS.values() for path in paths]


def _one(path: str) -> str:
    what = _found(path)
    signature = _signature(path, what)
    text = inspect.cleandoc(getattr(what, "__doc__", None) or "")
    return f"\n### {path}\n\n```python\n{signature}\n```\n\n{text}\n"


def page() -> str:
    """The reference of the public names."""
    first = (
        "# Python\n\nA worker needs one line at most, and a policy is a function"
        " ([Policies](../POLICY.md)). These are all public names.\n"
    )
    parts = [first]
    for title, paths in _SECTIONS.items():
        parts.append(f"\n## {title}\n")
        parts += [_one(path) for path in paths]
    return "".join(parts)
