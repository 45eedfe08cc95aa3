"""A policy from a compiled object file: read, checked, loaded, and put to use as a steering."""

from __future__ import annotations

import os

from segue.bpf import linker
from segue.engine.by_array import ByArray
from segue.engine.by_table import ByTable
from segue.engine.loaded import Loaded
from segue.engine.loaded_object import LoadedObject
from segue.engine.steering import Steering
from segue.errors import UsageError, WireError
from segue.linux.openat import open_trusted
from segue.policy import object as objects
from segue.policy.object import ObjectPolicy

# With every comment of a debugger such a file has some 100 KB.
LARGEST = 16 << 20


def read(path: str) -> ObjectPolicy:
    """The policy in an object file.

    Raises UsageError, beginning with the path, when it cannot be read, others than root and this
    user could have written it, it is malformed, or no policy that Segue can use.  Nothing is asked
    of the kernel's BPF.
    """
    try:
        with open(open_trusted(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise UsageError(f"{path} has {size} bytes; an object file has at most {LARGEST}")
            data = file.read(LARGEST)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return objects.match(linker.read(data))
    except (WireError, UsageError) as error:
        raise UsageError(f"{path} cannot be used as a policy: {error}") from None


def steering(path: str) -> Steering:
    """Steering of one group by the object; nothing is attached until a listener joins.

    Raises UsageError as ``read`` does, VerifierError with its log, KernelError (EPERM without
    CAP_BPF).
    """
    policy = read(path)
    return ByTable(policy) if policy.by_table else ByArray(policy)


def load(path: str) -> Loaded:
    """The object's program and maps, for whoever fills Segue's table.

    Raises as ``steering`` does, and UsageError for an object that has no such table.
    """
    policy = read(path)
    if not policy.by_table or "counters" not in policy.ours:
        raise UsageError(
            f"{path} cannot steer a group that Segue did not start: that needs the maps 'tables',"
            " 'control' and 'counters' (docs/OBJECT.md)"
        )
    return LoadedObject(policy).by_table()
