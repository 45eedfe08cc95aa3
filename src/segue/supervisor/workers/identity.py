"""The user of a worker, and the rights of the supervisor that it keeps: only those that are named.

All needed rights are checked here, before anything is started: a supervisor that could start a
worker as another user, but not end it, would be useless.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from segue.errors import UsageError
from segue.linux import capability, prctl

_KILL, _SETGID, _SETUID = (capability.bits([one]) for one in ("kill", "setgid", "setuid"))

_ID = re.compile("[0-9]{1,10}")  # of 32 bits


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and groups of a worker; where it is None, the worker has the supervisor's."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @classmethod
    def of(cls, user: str, group: str) -> Identity | None:
        """Look the names or numbers up.

        Raises UsageError if there is no such user or group, or if this process may not become it.
        """
        if not user and not group:
            return None
        try:
            entry = (
                pwd.getpwuid(int(user))
                if _ID.fullmatch(user)
                else pwd.getpwnam(user)
                if user
                else pwd.getpwuid(os.getuid())
            )
        except KeyError:
            raise UsageError(f"--user {user!r}: there is no such user") from None
        try:
            found = (
                int(group)
                if _ID.fullmatch(group)
                else grp.getgrnam(group).gr_gid
                if group
                else None
            )
        except KeyError:
            raise UsageError(f"--group {group!r}: there is no such group") from None
        gid = entry.pw_gid if found is None else found
        groups = tuple(os.getgrouplist(entry.pw_name, gid)) if user else (gid,)
        made = cls(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)
        lacking = made.needs() & ~capability.mine().effective
        if lacking:
            raise UsageError(
                f"--user {user or entry.pw_name}: this is uid {os.geteuid()} without"
                f" {capability.names(lacking)}, which root has: CAP_SETUID is needed to start"
                " a worker as another user, CAP_SETGID to give it only that user's groups, and"
                " CAP_KILL to end it"
            )
        return made

    def needs(self) -> int:
        """The capabilities that this process needs to start and end such a worker."""
        here = (os.getresuid(), os.getresgid(), set(os.getgroups()))
        needs = 0
        if here[0] != (self.uid,) * 3:
            needs |= _SETUID | _KILL
        if here[1:] != ((self.gid,) * 3, set(self.groups)):
            needs |= _SETGID
        return needs


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a worker beside those of its user; by default none.

    The bounding set is not changed.  Without new privileges a worker can get nothing from it, and a
    user who allows new privileges wants what it contains.
    """

    kept: int = 0  # capabilities as bits
    new_privileges: bool = True  # set-user-ID programs, and files with capabilities, work

    @classmethod
    def of(cls, kept: Iterable[str], *, new_privileges: bool) -> Rights:
        """Raises UsageError for a name that is not a capability, and for one that we lack."""
        which = capability.bits(kept)
        lacking = which & ~capability.mine().permitted
        if lacking:
            raise UsageError(
                f"--keep-capability: this process does not have {capability.names(lacking)} itself"
            )
        return cls(which, new_privileges)


def become(identity: Identity | None, rights: Rights) -> None:  # pragma: no cover  in the child
    """Become this user, with only these rights.  This also holds after exec(2).

    If root stays root, it keeps root's rights.  Raises OSError, whose ``filename2`` says which step
    failed.  After that nothing may be executed.
    """
    with _saying("its ambient capabilities could not be cleared"):
        capability.clear_ambient()
    if identity is not None:
        with _saying(f"it could not get the groups of {identity.name} (CAP_SETGID)"):
            if set(os.getgroups()) != set(identity.groups):
                os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
        with _saying(f"it could not become {identity.name} (CAP_SETUID)"):
            if rights.kept:
                capability.keep_permitted()
            os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.geteuid() != 0:
        # A change from one ordinary user to another removes no capability, and an inheritable one
        # becomes active in a program whose file has it.
        with _saying("its capabilities could not be given up"):
            capability.keep_only(rights.kept)
            left = capability.mine()
            if left.effective | left.permitted | left.inheritable != rights.kept:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    if not rights.new_privileges:
        with _saying("set-user-ID programs could not be given up"):
            prctl.set_no_new_privileges()


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:  # pragma: no cover  in the child
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, "", None, what) from error
