"""A BPF ring buffer read from user space (kernel/bpf/ringbuf.c).

A page with the consumer's position, which is ours to write; a page with the producer's; then the
data, mapped twice in a row so that a record is never in two pieces.  Positions only grow; a record
is an 8-byte header, its data, and padding to 8 bytes.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator

from segue.errors import KernelError, UsageError
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from segue.linux.closing import Closing

_HEADER = 8
_BUSY = 1 << 31  # reserved, not yet submitted
_DISCARDED = 1 << 30
_LENGTH = _DISCARDED - 1


def plausible_size(size: int) -> int:
    """The smallest size in bytes a ring buffer can have that holds ``size``.

    A power of two and at least a page, or the kernel refuses it with EINVAL.
    """
    return max(mmap.PAGESIZE, 1 << max(0, size - 1).bit_length())


class RingBuffer(Closing):
    """The one reader of a RINGBUF map, which it owns; selectable by ``fileno``.

    The descriptor is readable while a record waits.  Two readers of one map would each see some
    of the records, and torn positions.
    """

    def __init__(self, ring: Map) -> None:
        if ring.kind is not MapType.RINGBUF:
            raise UsageError(f"a {ring.kind.name} map is not a ring buffer")
        self._map = ring
        self._size = ring.info().entries
        try:
            self._consumer = mmap.mmap(ring.fileno(), mmap.PAGESIZE)
            try:
                self._producer = mmap.mmap(
                    ring.fileno(),
                    mmap.PAGESIZE + 2 * self._size,
                    prot=mmap.PROT_READ,
                    offset=mmap.PAGESIZE,
                )
            except BaseException:
                self._consumer.close()
                raise
        except OSError as error:
            number = error.errno or errno.EINVAL
            raise KernelError("mmap", number, "mapping a ring buffer") from error
        # As 64-bit words: struct would read them a byte at a time, and see them half written.
        self._consumed = memoryview(self._consumer).cast("Q")
        self._produced = memoryview(self._producer).cast("Q")

    @classmethod
    def create(cls, size: int, name: str = "") -> RingBuffer:
        """A new ring buffer of at least ``size`` bytes.  Raises KernelError."""
        entries = plausible_size(size)
        ring = Map.create(MapType.RINGBUF, key_size=0, value_size=0, entries=entries, name=name)
        try:
            return cls(ring)
        except BaseException:
            ring.close()
            raise

    def fileno(self) -> int:
        """The map's descriptor: for a selector, and for the program that writes; -1 when closed."""
        return self._map.fileno()

    def records(self) -> Iterator[bytes]:
        """Every record that is complete, oldest first; each is taken when it is yielded.

        Ends, without waiting, at the first that is not there or still being written.
        """
        while True:
            position = self._consumed[0]
            if position >= self._produced[0]:
                return
            start = mmap.PAGESIZE + position % self._size
            header = self._produced[start // 8] & 0xFFFFFFFF
            if header & _BUSY:
                return
            length = header & _LENGTH
            data = self._producer[start + _HEADER : start + _HEADER + length]
            # Aligned 64-bit store: with it the kernel may write over what we copied.
            self._consumed[0] = position + (length + _HEADER + 7) // 8 * 8
            if not header & _DISCARDED:
                yield data

    def close(self) -> None:
        """Unmap and close; the map lives on in the program that uses it."""
        if self._map.fileno() < 0:
            return
        for view in (self._consumed, self._produced):
            view.release()
        self._consumer.close()
        self._producer.close()
        self._map.close()
