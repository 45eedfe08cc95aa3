"""What a worker's application says of the peers of its connections, read from its page."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Protocol, Self

from segue import page
from segue.page import Mark, Says

# What counts, where processes that share a connection say different things of its peer.
_FIRST = (Says.BUSY, Says.LASTING, Says.KEPT)


class Marking(Protocol):
    """Processes that may say what they know of their peers."""

    def page(self) -> int | None:
        """The file of it, the caller's to close; None if there is none."""


class Marks:
    """A worker's page, open for reading until the end of a block.

    ``there`` says whether a middleware marks peers in it.
    """

    def __init__(self, process: Marking) -> None:
        self._file = process.page()
        header = b"" if self._file is None else os.pread(self._file, page.HEADER_BYTES, 0)
        self.there = page.present(header)
        self._key = page.key_of(header)

    def of(self, who: bytes, pids: Collection[int], now: int) -> Mark | None:
        """What these processes say of a peer (``page.peer``); kept if none says otherwise.

        ``now`` is in ms of CLOCK_MONOTONIC: the mark has its age then.
        """
        if self._file is None or not self.there:
            return None
        found = []
        for pid in pids:
            where = page.place(self._key, who, pid)
            bucket = os.pread(self._file, page.BUCKET_BYTES, where.start)
            if (mark := page.said(bucket, where, now)) is not None:
                found.append(mark)
        return min(found, key=lambda mark: _FIRST.index(mark.says), default=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def marked(process: Marking) -> bool:
    """A middleware marks peers in this worker's page."""
    with Marks(process) as found:
        return found.there
