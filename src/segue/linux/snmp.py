"""The counters of the TCP/IP stack: /proc/net/netstat and /proc/net/snmp (proc_pid_net(5)).

They count since the network namespace was made, over all its sockets; one look says nothing, the
difference of two does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from segue.errors import KernelError, WireError
from segue.linux.closing import Closing

# The thread's own, which may be in another network namespace than the rest of its process.
_FILES = ("/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp")
_LARGEST = 1 << 16


def parse(text: str) -> dict[str, int]:
    """``{"TcpExt.ListenDrops": 3, ...}`` of such a file: a line of names, a line of values.

    Raises WireError when the two do not belong together.
    """
    found: dict[str, int] = {}
    lines = text.splitlines()
    if len(lines) % 2:
        raise WireError("network counters", f"{len(lines)} lines, of which two belong together")
    for names_line, values_line in zip(lines[::2], lines[1::2], strict=True):
        names, values = names_line.split(), values_line.split()
        if len(names) != len(values) or names[:1] != values[:1]:
            raise WireError("network counters", f"{names_line[:20]!r} above {values_line[:20]!r}")
        group = names[0] if names else ""
        for name, value in zip(names[1:], values[1:], strict=True):
            found[f"{group.removesuffix(':')}.{name}"] = int(value)
    return found


def read() -> dict[str, int]:
    """Every counter of the calling thread's network namespace.  Raises KernelError."""
    found: dict[str, int] = {}
    for path in _FILES:
        try:
            with open(path, encoding="ascii") as file:
                found |= parse(file.read())
        except OSError as error:
            raise KernelError("read", error.errno or 0, f"reading {path}") from error
    return found


class Counters(Closing):
    """Some counters of the network namespace it was made in, for who asks often."""

    def __init__(self) -> None:
        """Raises KernelError."""
        self._fd = -1
        try:
            self._fd = os.open(_FILES[0], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", error.errno or 0, f"opening {_FILES[0]}") from error
        self._names = b""  # as they stood above the values last
        self._places: dict[str, int] = {}

    def read(self, names: Iterable[str]) -> dict[str, int]:
        """Those of the group TcpExt that have these names, without the group; 0 for one that this
        kernel does not have.  Raises KernelError.
        """
        try:
            data = os.pread(self._fd, _LARGEST, 0)
        except OSError as error:
            raise KernelError("read", error.errno or 0, f"reading {_FILES[0]}") from error
        above, below, _ = data.split(b"\n", 2)
        if above != self._names:
            self._names = above
            self._places = {name: at for at, name in enumerate(above.decode("ascii").split())}
        values, places = below.split(), self._places
        return {name: int(values[places[name]]) if name in places else 0 for name in names}

    def close(self) -> None:
        """Close the file; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def difference(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What has changed, and by how much; a counter that was not there before began at zero."""
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: by for name, by in grown.items() if by}
