"""Who a worker is, and which rights of the supervisor's it keeps: none, unless they are named.

What cannot be taken back later is asked for here, before anything is started: a supervisor that
may start a worker as another user and not end it would be of no use to anybody.
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
    """Who a worker runs as; None for who the supervisor is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @classmethod
    def of(cls, user: str, group: str) -> Identity | None:
        """Look the names or numbers up.

        Raises UsageError when there is no such one, or it may not be taken on from here.
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
                f" {capability.names(lacking)}, which root has: it takes CAP_SETUID to start a"
                " worker as another user, CAP_SETGID to give it that user's groups and no others,"
                " and CAP_KILL to end it"
            )
        return made

    def needs(self) -> int:
        """The capabilities without which this process could not start and end such a worker."""
        here = (os.getresuid(), os.getresgid(), set(os.getgroups()))
        needs = 0
        if here[0] != (self.uid,) * 3:
            needs |= _SETUID | _KILL
        if here[1:] != ((self.gid,) * 3, set(self.groups)):
            needs |= _SETGID
        return needs


@dataclass(frozen=True, slots=True)
class Rights:
    """What a worker may have beside what its user has; nothing unless it is said.

    The bounding set is left alone: without new privileges nothing in it can be had again, and who
    allows those wants what it allows.
    """

    kept: int = 0  # capabilities as bits
    new_privileges: bool = True  # set-user-ID programs, and files with capabilities, work

    @classmethod
    def of(cls, kept: Iterable[str], *, new_privileges: bool) -> Rights:
        """Raises UsageError for a name that is no capability, and one that is not ours to give."""
        which = capability.bits(kept)
        lacking = which & ~capability.mine().permitted
        if lacking:
            raise UsageError(
                f"--keep-capability: this process has not got {capability.names(lacking)} itself"
            )
        return cls(which, new_privileges)


def become(identity: Identity | None, rights: Rights) -> None:  # pragma: no cover  in the child
    """Be this user, with these rights and no others, from here on and over exec(2).

    Root that stays root keeps what root has.  Raises OSError, whose ``filename2`` says what could
    not be done: then nothing must be executed.
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
        # A change from one ordinary user to another takes none away, and an inheritable one waits
        # for a program whose file has it.
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
        raise OSError(error.errno, error.strerror, None, None, what) from error
