"""The global variables of a BPF program: an array of one element, mapped into our memory.

What the program adds to a counter is seen here at once, and one variable can be written without
touching those beside it, which a program may be counting in at the same moment: an update of the
element would set them all back.
"""

from __future__ import annotations

import errno
import mmap
from typing import Self

from segue.errors import KernelError, UsageError
from segue.linux.bpf_attr import MapFlag, MapType
from segue.linux.bpf_maps import Map

_KEY = bytes(4)


class Variables(Map):
    """An ARRAY of one element that begins as ``content``; Linux 5.5 or later."""

    _memory: mmap.mmap | None = None
    _constant: bytes | None = None

    @classmethod
    def begin(cls, content: bytes, *, name: str = "", constant: bool = False) -> Self:
        """Make and fill it.  Constant: nobody can write to it, and the verifier knows its value.

        Raises KernelError.
        """
        flag = MapFlag.RDONLY_PROG if constant else MapFlag.MMAPABLE
        plain = Map.create(MapType.ARRAY, value_size=len(content), entries=1, flags=flag, name=name)
        made = cls(plain.fileno(), plain.kind, plain.key_size, plain.value_size)
        try:
            made.update(_KEY, content)
            if constant:
                made.freeze()
                made._constant = content
            else:
                made._map(len(content))
        except BaseException:
            made.close()
            raise
        return made

    def _map(self, size: int) -> None:
        pages = -(-size // mmap.PAGESIZE)
        try:
            self._memory = mmap.mmap(self.fileno(), pages * mmap.PAGESIZE)
        except OSError as error:
            number = error.errno or errno.EINVAL
            raise KernelError("mmap", number, "mapping a program's variables") from error

    def read(self, offset: int, size: int) -> bytes:
        """The variable at this offset as it is now."""
        self._within(offset, size)
        if self._constant is not None:
            return self._constant[offset : offset + size]
        assert self._memory is not None
        return self._memory[offset : offset + size]

    def write(self, offset: int, data: bytes) -> None:
        """Set the variable at this offset; aligned and up to 8 bytes it is seen whole."""
        self._within(offset, len(data))
        if self._memory is None:
            raise UsageError("constants of a program cannot be written")
        self._memory[offset : offset + len(data)] = data

    def _within(self, offset: int, size: int) -> None:
        if not 0 <= offset <= offset + size <= self.value_size:
            raise UsageError(f"bytes {offset} to {offset + size} of {self.value_size}")

    def close(self) -> None:
        """Close the descriptor and take it out of our memory; a program that uses it keeps it."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        super().close()
