"""Where metrics are to be exported: an address or a Unix socket for HTTP, or a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from segue.address import Address
from segue.errors import NotSupported, UsageError

EXTRA = "metrics"  # of the package, with the library that writes what Prometheus reads
LIBRARY = "prometheus_client"
_SCHEMES = ("unix", "textfile")


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """ADDRESS, unix:PATH or textfile:PATH."""

    path: str = ""
    textfile: bool = False
    address: Address | None = None

    @classmethod
    def parse(cls, text: str) -> ExportTarget:
        """Raises UsageError if the text is none of these."""
        scheme, colon, path = text.partition(":")
        if not colon or scheme not in _SCHEMES:
            try:
                return cls(address=Address.parse(text))
            except UsageError as error:
                raise UsageError(
                    f"metrics go to ADDRESS, unix:PATH or textfile:PATH: {error}"
                ) from None
        if not path or "\0" in path:
            raise UsageError(f"{text!r} names no file: write {scheme}:PATH")
        return cls(path, scheme == "textfile")

    def below(self, directory: str) -> ExportTarget:
        """The same with a path that does not depend on where a process is."""
        return self if self.address else replace(self, path=os.path.join(directory, self.path))

    def __str__(self) -> str:
        if self.address:
            return str(self.address)
        return f"{_SCHEMES[self.textfile]}:{self.path}"


def missing_library() -> NotSupported:
    """What is to be said where the extra is not installed."""
    needs = f"the extra {EXTRA} (pip install 'segue[{EXTRA}]')"
    return NotSupported("exporting metrics", needs, "none")
