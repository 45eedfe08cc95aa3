"""The memory in which data waits to be read, as Linux counts it (sk_rmem_alloc, truesize)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

from segue.wire.seq import Seq

_HEAD, _SHARED, _RECORD = 64, 320, 256  # NET_SKB_PAD, struct skb_shared_info, struct sk_buff
# The least head of a buffer (SKB_SMALL_HEAD_CACHE_SIZE): of the kernel that was measured.  Others
# have 704: it depends on what tunnels and radios a kernel is built for.
_SMALL = 576
_PAGE = 4096
_MOST_HEAD = _PAGE - _HEAD - _SHARED  # of a packet; the rest is in pages (SKB_MAX_HEAD)
SHARE = 128  # of 256, before a full segment has told better (TCP_DEFAULT_SCALING_RATIO)


def _head_of(size: int) -> int:
    """The memory that data of that size is in, as there are sizes of it."""
    size += _SHARED
    return _SMALL if size <= _SMALL else 1 << (size - 1).bit_length()


@lru_cache(maxsize=2048)
def memory_of(size: int) -> int:
    """Of the buffer in which Linux has a packet of that size (SKB_TRUESIZE): its head is a power
    of two, up to a page.
    """
    if size > _MOST_HEAD:
        return _PAGE + (size - _MOST_HEAD + _PAGE - 1) // _PAGE * _PAGE + _RECORD
    return _head_of(_HEAD + size) + _RECORD


@dataclass(slots=True, eq=False)
class ReceiveBuffer:
    """Of one connection, since its first data."""

    limit: int  # of the memory (sk_rcvbuf)
    fixed: bool  # by SO_RCVBUF
    advertised: int  # the size of a full segment (advmss)
    clamp: int  # of the window, by the limit (window_clamp)
    threshold: int  # of the window, by what came (rcv_ssthresh)
    typical: int  # size of the peer's segments (rcv_mss)
    space: int  # what was read within a round trip (rcvq_space)
    measured_from: Seq
    measured_at: float
    share: int = SHARE
    last_size: int = 0
    # What waits to be read.
    memory: int = 0
    buffers: list[tuple[int, int]] = field(default_factory=list)  # the end of each, its memory
    room: int = 0  # in the last
    queued: int = 0
    # The round trip as a receiver sees it, in seconds; -1 before the first.
    round_trip: float = -1.0
    round_end: Seq = field(default=Seq(0))
    round_at: float = -inf
    pushed: int = 0  # small segments that no ACK has told of: 2 are two or more

    def queue(self, data: int, packet: int) -> None:
        """So many bytes wait to be read, in a buffer of their own or in the last one's room
        (tcp_try_coalesce).  ``packet`` is the size of what they came in.
        """
        self.queued += data
        if data <= self.room and self.buffers:
            self.room -= data
            self.buffers[-1] = (self.queued, self.buffers[-1][1])
            return
        took = memory_of(packet)
        self.memory += took
        self.room = 0 if packet > _MOST_HEAD else took - _RECORD - _SHARED - _HEAD - packet
        self.buffers.append((self.queued, took))

    def free(self, until: int) -> None:
        """So much was read, since the beginning: buffers of which nothing is left are free."""
        buffers = self.buffers
        if until >= self.queued:
            buffers.clear()
            self.memory = 0
            return
        gone = 0
        for end, took in buffers:
            if end > until:
                break
            self.memory -= took
            gone += 1
        del buffers[:gone]

    def collapse(self, waiting: int) -> None:
        """From the first that has more memory than its share, all is put together (tcp_collapse).
        ``waiting`` is how many bytes were not read.
        """
        kept: list[tuple[int, int]] = []
        place = self.queued - waiting
        for end, took in self.buffers:
            if took * self.share >> 8 > end - place:
                break
            kept.append((end, took))
            place = end
        while place < self.queued:
            size = min(self.queued - place, _PAGE - _SHARED)
            place += size
            kept.append((place, _head_of(size) + _RECORD))
            self.room = _head_of(size) - _SHARED - size
        self.buffers = kept
        self.memory = sum(took for _, took in kept)
