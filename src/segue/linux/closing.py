"""What holds something of the kernel, and gives it back at the end of a ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """``close`` is called however the block ends; nothing is kept from being raised."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give it back; twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
