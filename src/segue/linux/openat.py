"""Directories and files that somebody else could have put there (openat(2), O_NOFOLLOW).

What a path means may change between a look and a use.  So a directory is opened once, never by
way of a link, its owner and mode are asked of the descriptor, and what is in it is named by that
descriptor (path_resolution(7)).  The directory above needs no look: whoever may rename there can
only put something of his own in the place of ours, and that is refused at the next use.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Collection, Iterator
from typing import Self

from segue.errors import UsageError
from segue.linux.closing import Closing

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_FILE = "it is no regular file"


def foreign(found: os.stat_result, trusted: Collection[int], private: Collection[int] = ()) -> str:
    """Why somebody else could change what looks so; "" when only these users can.

    A group that is ``private`` is as good as its user.
    """
    if why := _of_another(found, trusted):
        return why
    others = found.st_mode & _OTHERS_WRITE
    if found.st_gid in private:
        others &= ~stat.S_IWGRP
    if others:
        return f"its group or others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def _of_another(found: os.stat_result, trusted: Collection[int]) -> str:
    return "" if found.st_uid in trusted else f"it belongs to {user(found.st_uid)}"


def user(uid: int) -> str:
    """A user for sentences: ``uid 33 (www-data)``."""
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"uid {uid}"


class Directory(Closing):
    """A directory of this user's own, by descriptor; names are those in it, never paths."""

    def __init__(self, descriptor: int, path: str, owner: int | None = None) -> None:
        """Own the descriptor.  Raises UsageError, closing it, when others may change it.

        ``owner`` is another user whose alone it must be.
        """
        self.path, self._fd = path, descriptor
        why = foreign(os.fstat(descriptor), {os.geteuid() if owner is None else owner})
        if why:
            self.close()
            whose = "this user's" if owner is None else f"{user(owner)}'s"
            raise UsageError(f"{path} is not used: {why}, and it must be {whose} alone")

    @classmethod
    def open(cls, path: str, owner: int | None = None) -> Self:
        """The directory at this path, which must be no link; of another user with ``owner``.

        Raises UsageError when it is one, or others may change it, OSError: ENOENT.
        """
        return cls(_opened(path, None, path), path, owner)

    @classmethod
    def make(cls, path: str, mode: int) -> Self:
        """The same, made with this mode, whatever the umask, unless it is there."""
        os.makedirs(os.path.dirname(path) or ".", 0o755, exist_ok=True)
        _make(path, mode, None)
        return cls.open(path)

    def below(self, name: str) -> Self:
        """A directory in this one.  Raises as ``open``."""
        path = f"{self.path}/{name}"
        return type(self)(_opened(name, self._fd, path), path)

    def make_below(self, name: str, mode: int) -> Self:
        """The same, made with this mode, whatever the umask, unless it is there."""
        _make(name, mode, self._fd)
        return self.below(name)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    @property
    def through(self) -> str:
        """A path to this very directory, for calls that take nothing else; good until ``close``."""
        return f"/proc/self/fd/{self._fd}"

    def names(self) -> list[str]:
        """What is in it, sorted."""
        return sorted(os.listdir(self._fd))

    def holds(self, name: str) -> bool:
        """It has such an entry, of whatever kind."""
        return self.look(name) is not None

    def look(self, name: str) -> os.stat_result | None:
        """What the entry is, a link being a link; None when there is none.  Raises OSError."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def file(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A new descriptor of a file in it, the caller's.  Raises OSError: ELOOP for a link."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._fd)

    def bind(self, unbound: socket.socket, name: str, mode: int) -> None:
        """Give a Unix socket this name in place of whatever has it.  Raises OSError."""
        self.unlink(name)
        with exactly(mode):
            unbound.bind(f"{self.through}/{name}")  # there is no bindat(2)

    def unlink(self, name: str) -> None:
        """Remove a file; gone is no error.  Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def rmdir(self, name: str) -> None:
        """Remove an empty directory in it.  Raises OSError."""
        os.rmdir(name, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Rename within it, replacing a file or an empty directory.  Raises OSError."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def close(self) -> None:
        """Close the descriptor; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _make(name: str, mode: int, inside: int | None) -> None:
    with contextlib.suppress(FileExistsError), exactly(mode):
        os.mkdir(name, mode, dir_fd=inside)


def _opened(name: str, inside: int | None, path: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=inside)
    except NotADirectoryError:  # so it is for a link, too
        found = os.stat(name, dir_fd=inside, follow_symlinks=False)
        raise UsageError(
            f"{path} is not used: it is a link or a file of {user(found.st_uid)}, and it must be"
            " a directory of this user's alone"
        ) from None


@contextlib.contextmanager
def exactly(mode: int) -> Iterator[None]:
    """What is made inside the block gets this mode.

    A chmod(2) afterwards could hit what somebody has put in its place by then.
    """
    before = os.umask(~mode & 0o777)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def around(path: str) -> Iterator[tuple[Directory, str]]:
    """The directory that this path is in, and the name there.  Raises as ``Directory.open``."""
    where, name = os.path.split(path)
    with Directory.open(where or ".") as inside:
        yield inside, name


def remove(path: str) -> None:
    """Remove one file, as far as it is in a directory of this user's own."""
    with contextlib.suppress(OSError, UsageError), around(path) as (here, name):
        here.unlink(name)


def open_trusted(path: str) -> int:
    """A descriptor to read a file by that decides what this process does; the caller closes it.

    A link is followed if it is this user's or root's, as the file must be.  In whose directory it
    is does not matter: what another user puts in its place is his.  Raises UsageError, saying
    whose it is, when others could have written it, OSError.
    """
    # A FIFO that nobody writes to must not hold us up before its owner is known.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse(path, os.lstat(path), os.fstat(descriptor))
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_to_append(path: str, trusted: Collection[int], mode: int) -> int:
    """A descriptor to write at the end of a file by, the caller's; made with this mode if need be.

    In whose directory it is does not matter, as that of a log is often the service's own user's.
    So it must be no link, have no other name, by which it would be another user's file, and belong
    to one of the ``trusted``.  Raises UsageError if it does not, OSError.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        with exactly(mode):
            descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    except OSError as error:
        # ENXIO is of a FIFO that nobody reads, and of a socket.
        whys = {errno.ELOOP: "it is a link; name the file itself", errno.ENXIO: _NO_FILE}
        if error.errno not in whys:
            raise
        raise UsageError(f"{path} is not written to: {whys[error.errno]}") from None
    found = os.fstat(descriptor)
    why = _of_another(found, trusted)
    if not stat.S_ISREG(found.st_mode):
        why = _NO_FILE
    elif found.st_nlink != 1:
        why = "it has another name too, or none, and so may be another user's"
    if why:
        os.close(descriptor)
        raise UsageError(f"{path} is not written to: {why}")
    os.set_blocking(descriptor, True)
    return descriptor


def _refuse(path: str, named: os.stat_result, opened: os.stat_result) -> None:
    trusted = {0, os.geteuid()}
    why = _of_another(named, trusted) if stat.S_ISLNK(named.st_mode) else ""
    if stat.S_ISCHR(opened.st_mode):
        # What others write to /dev/null or to a terminal is not what is read from it.
        why = why or _of_another(opened, trusted)
    else:
        why = why or foreign(opened, trusted, _private_groups())
    if why:
        raise UsageError(
            f"{path} is not used: {why}, and it decides what is done with the rights of"
            f" {user(os.geteuid())}; {_remedy(path, named, opened, trusted)}"
        )
    if stat.S_ISDIR(opened.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def _remedy(
    path: str, named: os.stat_result, opened: os.stat_result, trusted: Collection[int]
) -> str:
    """What to do for whoever trusts the file all the same."""
    if stat.S_ISLNK(named.st_mode) and named.st_uid not in trusted:
        return "name the file itself, not that link"
    if opened.st_uid in trusted and not stat.S_ISCHR(opened.st_mode):
        return f"chmod go-w {path} keeps others from writing to it"
    # Not chown(1): its owner may have it open for writing.
    return "run segue as its owner, or use a copy of your own if you trust what is in it"


def _private_groups() -> tuple[int, ...]:
    """A user's own group, which many systems give each user and let write (umask 002).

    Root's is none: who is in it elsewhere is not asked of the password file.
    """
    if os.geteuid() == 0:
        return ()
    try:
        name, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid())
    except KeyError:
        return ()
    alone = group.gr_name == name and set(group.gr_mem) <= {name}
    return (group.gr_gid,) if alone else ()
