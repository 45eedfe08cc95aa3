"""Where the program of a group and its maps are pinned, so that they can be found again.

An attached program lives with its group in any case; the pins are what gives the next ``segue
attach`` its maps, and so its table and its counters, after a restart or a kill -9.

A host without a mounted bpf file system is refused.  One mounted by us would be a change of the
host that nobody asked for and that outlives us; in a mount namespace of our own it would go with
us, just when it is wanted.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass

from segue.engine.migrate import Migrate
from segue.errors import KernelError, NotSupported
from segue.linux.bpf import obj_get
from segue.linux.bpf_maps import Map
from segue.linux.bpffs import is_bpffs

USUAL = "/sys/fs/bpf"


@dataclass(frozen=True, slots=True)
class Pins:
    """The pins of one name in one bpf file system: ROOT/segue/NAME/OBJECT."""

    name: str
    root: str = USUAL

    @property
    def directory(self) -> str:
        """Where they are."""
        # A bpf file system keeps names with dots for itself (bpf_lookup).
        return f"{self.root}/segue/{self.name.replace('.', ':')}"

    def require(self) -> None:
        """Raise NotSupported when there is no bpf file system to pin in."""
        if not is_bpffs(self.root):
            raise NotSupported(
                "keeping what is attached over a restart of Segue",
                f"a bpf file system (mount -t bpf bpf {USUAL}, or name another with --bpffs)",
                f"{self.root} is none",
            )

    def there(self) -> bool:
        """Something is pinned under this name."""
        return os.path.isdir(self.directory)

    def open(self) -> dict[str, int]:
        """A new descriptor of each, by name, for ``Migrate.restore``.  Raises KernelError."""
        found: dict[str, int] = {}
        try:
            for name in sorted(os.listdir(self.directory)):
                found[name] = obj_get(f"{self.directory}/{name}")
        except BaseException:
            for descriptor in found.values():
                os.close(descriptor)
            raise
        return found

    def table(self) -> Map:
        """The pinned table of sockets, the caller's to close.  Raises KernelError."""
        return Map.get(f"{self.directory}/sockets")

    def pin(self, steering: Migrate) -> None:
        """Pin its program and maps: all of them, or none is found under this name.

        Raises KernelError: EACCES when the bpf file system is another user's.
        """
        beside = f"{self.directory}:new"
        self._remove(beside)
        try:
            os.makedirs(beside, 0o700)
            steering.pin_objects(beside)
            os.rename(beside, self.directory)
        except OSError as error:
            if isinstance(error, KernelError):
                raise
            number = error.errno or 0
            advice = "name a bpf file system of your own with --bpffs"
            doing = f"pinning to {self.directory}"
            raise KernelError(
                "mkdir", number, doing, advice if number in {errno.EACCES, errno.EPERM} else ""
            ) from error

    def remove(self) -> bool:
        """Remove them; False when there were none."""
        return self._remove(self.directory)

    def _remove(self, directory: str) -> bool:
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return False
        for name in names:
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
        with suppress(OSError):  # others may have theirs there
            os.rmdir(os.path.dirname(directory))
        return True
