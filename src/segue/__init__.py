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
        ModelMismatch,
        NotSupported,
        SegueError,
        UsageError,
        VerifierError,
        WireError,
        WorkerFailed,
    )
    from segue.group import Connection, Generation, Group, Listener
    from segue.worker import draining

__all__ = [
    "Address",
    "Connection",
    "Generation",
    "Group",
    "IllegalInput",
    "InternalError",
    "KernelError",
    "Listener",
    "ModelMismatch",
    "NotSupported",
    "SegueError",
    "UsageError",
    "VerifierError",
    "WireError",
    "WorkerFailed",
    "draining",
]

_HOMES = {
    "Address": "segue.address",
    "Connection": "segue.group",
    "Generation": "segue.group",
    "Group": "segue.group",
    "Listener": "segue.group",
    "draining": "segue.worker",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'segue' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "segue.errors")), name)


def __dir__() -> list[str]:
    return __all__
