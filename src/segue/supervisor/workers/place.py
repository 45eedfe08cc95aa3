"""The directory that a worker starts in, opened by its name at each start.

A deploy may switch a link in the name to another release.  Whoever held a descriptor from one
start to the next, or the directory that the name once led to, would start the old release again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass, replace

from segue.errors import StartRefused
from segue.supervisor.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """One directory by its absolute name.

    ``chosen`` by --chdir, it must be one that the worker's user can enter.  Otherwise it is the one
    of ``segue run``, which a child inherits whatever its user may do there.
    """

    name: str
    chosen: bool = False

    @classmethod
    def of(cls, settings: Settings, start: str) -> Place:
        """The one that the settings mean, of a ``segue run`` that was started in ``start``."""
        return cls(settings.chdir or start, chosen=bool(settings.chdir))

    def back_to(self, resolved: str) -> Place:
        """Where the name once led.  This one if it leads there now, or if that one is gone."""
        with contextlib.suppress(StartRefused):
            if self.resolved() == resolved:
                return self
        return replace(self, name=resolved) if os.path.isdir(resolved) else self

    def open(self) -> int:
        """A descriptor of what the name leads to now, the caller's.  Raises StartRefused."""
        try:
            return self._open()
        except OSError as error:
            refused = StartRefused(why_not(self.name, error.errno or 0, self._link()))
        # A deploy may have switched the link just now: then the sentence would be wrong.
        try:
            return self._open()
        except OSError:
            raise refused from None

    def _open(self) -> int:
        return os.open(self.name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def resolved(self) -> str:
        """The directory that the name leads to now, without links.  Raises StartRefused."""
        descriptor = self.open()
        try:
            return path_of(descriptor)
        finally:
            os.close(descriptor)

    def refused(self, user: str) -> StartRefused:
        """The error for a worker whose user cannot enter it."""
        return StartRefused(
            f"workers start in {self.name}, which {user} cannot enter: let it enter, or give"
            " another --chdir"
        )

    def _link(self) -> str:
        """The first link in the name that leads nowhere, and where it should lead; "" for none."""
        path = ""
        for part in self.name.split("/"):
            path = f"{path}/{part}" if part else path
            try:
                if stat.S_ISLNK(os.lstat(path or "/").st_mode) and not os.path.exists(path):
                    return f"{path} is a link to {os.readlink(path)}"
            except OSError:
                return ""
        return ""


def path_of(directory: int) -> str:
    """The path that the kernel has for an open directory."""
    return os.readlink(f"/proc/self/fd/{directory}")


def program(name: str, search: str | None, directory: str) -> str:
    """The path of the program that exec(3) would find; "" for none.

    ``directory`` is the resolved one that it is started in, ``search`` its PATH.  Links are
    resolved up to the program's own: that one tells a virtual environment from its base.
    """
    found = os.path.join(directory, name) if "/" in name else shutil.which(name, path=search)
    if found is None or not os.access(found, os.X_OK) or os.path.isdir(found):
        return ""
    above, own = os.path.split(os.path.join(directory, found))
    return os.path.join(os.path.realpath(above), own)


def why_not(name: str, number: int, link: str = "") -> str:
    """The sentence about a directory that cannot be opened; ``link`` says what leads nowhere."""
    said = f" ({link})" if link else ""
    if number == errno.ENOENT:
        mend = "switch the link to a directory that exists" if link else "make it again"
        return f"workers start in {name}, which is gone{said}: {mend}"
    if number == errno.ENOTDIR:
        return f"workers start in {name}, which is no directory: give another --chdir"
    return f"workers start in {name}, which cannot be opened: {os.strerror(number)}"
