"""Where the program of a group and its maps are pinned, so that they can be found again.

An attached program lives with its group in any case; the pins are what gives the next ``segue
attach`` its maps, and so its table and its counters, after a restart or a kill -9.

A host without a mounted bpf file system is refused.  One mounted by us would be a change of the
host that nobody asked for and that outlives us; in a mount namespace of our own it would go with
us, just when it is wanted.

By the kernel's default anybody may make directories and links at the top of it, so ``segue`` there
may be anybody's: it is used only while it is this user's own, and stays when it is empty, since a
name that is free can be taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from segue.engine.migrate import Migrate
from segue.errors import KernelError, NotSupported, UsageError
from segue.linux.bpf import obj_get
from segue.linux.bpf_maps import Map
from segue.linux.bpffs import is_bpffs
from segue.linux.openat import Directory

USUAL = "/sys/fs/bpf"
MOUNT = f"mount -t bpf -o mode=0700 bpf {USUAL}"
_ADVICE = "name a bpf file system of your own with --bpffs"


@dataclass(frozen=True, slots=True)
class Pins:
    """The pins of one name in one bpf file system: ROOT/segue/NAME/OBJECT."""

    name: str
    root: str = USUAL

    @property
    def directory(self) -> str:
        """Where they are."""
        return f"{self._above}/{self._called}"

    @property
    def _above(self) -> str:
        return f"{self.root}/segue"

    @property
    def _called(self) -> str:
        # A bpf file system keeps names with dots for itself (bpf_lookup).
        return self.name.replace(".", ":")

    def require(self) -> None:
        """Raise NotSupported when there is no bpf file system to pin in."""
        if not is_bpffs(self.root):
            raise NotSupported(
                "keeping what is attached over a restart of Segue",
                f"a bpf file system ({MOUNT}, or name another with --bpffs)",
                f"{self.root} is none",
            )

    def there(self) -> bool:
        """Something is pinned under this name.

        Raises UsageError when the directories are not this user's alone.
        """
        with self._opened() as found:
            return found is not None

    def open(self) -> dict[str, int]:
        """A new descriptor of each, by name, for ``Migrate.restore``.

        Raises KernelError, and UsageError as ``there``.
        """
        found: dict[str, int] = {}
        with self._opened() as here:
            try:
                for name in [] if here is None else here.names():
                    found[name] = self._get(here, name)
            except BaseException:
                for descriptor in found.values():
                    os.close(descriptor)
                raise
        return found

    def table(self) -> Map:
        """The pinned table of sockets, the caller's to close.  Raises as ``open``."""
        with self._opened() as here:
            return Map.adopt(self._get(here, "sockets"))

    def pin(self, steering: Migrate) -> None:
        """Pin its program and maps: all of them, or none is found under this name.

        Raises UsageError when the directories are not this user's alone, KernelError: EACCES when
        the bpf file system is another user's.
        """
        # No instance has such a name, so what is there was left by one that was killed here.
        beside = f":{self._called}"
        try:
            with self._own(Directory.make, self._above, 0o700) as above:
                self._remove(above, beside)
                with above.make_below(beside, 0o700) as made:
                    steering.pin_objects(made.through)
                above.rename(beside, self._called)
        except OSError as error:
            refused = error.errno in {errno.EACCES, errno.EPERM}
            raise KernelError(
                error.call if isinstance(error, KernelError) else "mkdir",
                error.errno or 0,
                f"pinning to {self.directory}",
                _ADVICE if refused else "",
            ) from error

    def remove(self) -> bool:
        """Remove them; False when there were none.

        Raises UsageError as ``there``, and when something else is among them.
        """
        with self._opened() as found:
            if found is None:
                return False
        with self._own(Directory.open, self._above) as above:
            self._remove(above, self._called)
        return True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Directory | None]:
        """The directory of this name; None when there is none."""
        with contextlib.ExitStack() as opened:
            try:
                above = opened.enter_context(self._own(Directory.open, self._above))
                here = opened.enter_context(self._own(above.below, self._called))
            except FileNotFoundError:
                here = None
            except PermissionError as error:
                doing = f"opening {self.directory}"
                raise KernelError("open", error.errno or 0, doing, _ADVICE) from error
            yield here

    def _own(self, opening: Callable[..., Directory], *what: str | int) -> Directory:
        """The directory that is opened so.  Raises UsageError when it is not this user's alone."""
        try:
            return opening(*what)
        except UsageError as error:
            raise UsageError(
                f"{error}; remove it, or name a bpf file system with --bpffs that others may not"
                f" write to ({MOUNT})"
            ) from None

    def _get(self, here: Directory | None, name: str) -> int:
        path = f"{self.directory}/{name}"
        if here is None:
            raise KernelError("open", errno.ENOENT, f"opening the pin {path}")
        return obj_get(f"{here.through}/{name}", path)

    def _remove(self, above: Directory, called: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            with self._own(above.below, called) as here:
                for name in here.names():
                    found = here.look(name)
                    if found is not None and not stat.S_ISREG(found.st_mode):
                        raise UsageError(
                            f"{here.path}/{name} is nothing that Segue has pinned; remove it"
                        )
                for name in here.names():
                    here.unlink(name)
            above.rmdir(called)
