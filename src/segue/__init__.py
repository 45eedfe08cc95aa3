"""Segue: restart a server and lose no connection.

The public names, re-exported; nothing else.  They are found on first use, so that a worker that
imports only ``segue.asgi`` does not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.address import Address
    from segue.errors import (
        IllegalInput,
        InternalError,
        KernelError,
        NotSupported,
        PolicyError,
        ProgramFault,
        ScriptError,
        SegueError,
        StartRefused,
        UsageError,
        VerifierError,
        WireError,
    )
    from segue.group import Connection, Group, Listener
    from segue.policy.integers import i64, u32, u64
    from segue.policy.language import Migrating, Selection, Verdict
    from segue.policy.maps import Map
    from segue.policy.plain import Policy as policy  # noqa: N813  a decorator
    from segue.worker import draining

__all__ = [
    "Address",
    "Connection",
    "Group",
    "IllegalInput",
    "InternalError",
    "KernelError",
    "Listener",
    "Map",
    "Migrating",
    "NotSupported",
    "PolicyError",
    "ProgramFault",
    "ScriptError",
    "SegueError",
    "Selection",
    "StartRefused",
    "UsageError",
    "Verdict",
    "VerifierError",
    "WireError",
    "draining",
    "i64",
    "policy",
    "u32",
    "u64",
]

_HOMES = {
    "Address": "segue.address",
    "Connection": "segue.group",
    "Group": "segue.group",
    "Listener": "segue.group",
    "Map": "segue.policy.maps",
    "Migrating": "segue.policy.language",
    "Selection": "segue.policy.language",
    "Verdict": "segue.policy.language",
    "draining": "segue.worker",
    "i64": "segue.policy.integers",
    "u32": "segue.policy.integers",
    "u64": "segue.policy.integers",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'segue' has no attribute {name!r}")
    if name == "policy":
        return import_module("segue.policy")  # a package that is called as a decorator
    return getattr(import_module(_HOMES.get(name, "segue.errors")), name)


def __dir__() -> list[str]:
    return __all__
