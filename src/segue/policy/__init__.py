"""Which listener gets a connection: Python in, eBPF out, without a system call.

The module is itself the decorator, so that ``from segue import policy`` and ``@policy`` go
together with ``segue.policy.library``: an attribute of a package and a submodule of the same name
are one thing to Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segue.policy.plain import Policy


class _Room(ModuleType):
    """This package, callable."""

    def __call__(self, function: Callable[..., Any]) -> Policy:
        """A function of ``conn`` and ``group`` as a policy: see ``segue.policy.plain``."""
        # Imported on use: the supervisor's own rooms want only the numbers and layouts below here.
        from segue.policy.plain import Policy  # noqa: PLC0415

        return Policy(function)


sys.modules[__name__].__class__ = _Room
