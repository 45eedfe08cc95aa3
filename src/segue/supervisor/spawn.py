"""Start one worker: its descriptors from 3 on, its environment, its user; never through a shell.

fork(2) and exec(3) by hand, because LISTEN_PID must be the pid of the very process that execs
(sd_listen_fds(3)) and ``subprocess`` cannot know it.  Fork is safe: the supervisor has one thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.errors import KernelError, UsageError
from segue.supervisor.settings import FIRST_FD


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
        """Look the names or numbers up.  Raises UsageError when there is no such one."""
        if not user and not group:
            return None
        try:
            entry = (
                pwd.getpwuid(int(user))
                if user.isdigit()
                else pwd.getpwnam(user)
                if user
                else pwd.getpwuid(os.getuid())
            )
        except KeyError:
            raise UsageError(f"--user {user!r}: there is no such user") from None
        try:
            found = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else None
        except KeyError:
            raise UsageError(f"--group {group!r}: there is no such group") from None
        gid = entry.pw_gid if found is None else found
        groups = tuple(os.getgrouplist(entry.pw_name, gid)) if user else (gid,)
        return cls(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


@dataclass(frozen=True, slots=True)
class Child:
    """A started process; ``pidfd`` becomes readable when it ends and is the holder's to close."""

    pid: int
    pidfd: int


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    inherit: Sequence[int] = (),
    output: int | None = None,
    identity: Identity | None = None,
) -> Child:
    """Run ``argv`` in a session of its own with ``inherit`` as descriptors 3, 4, ...

    ``env`` is the whole environment; LISTEN_PID is added when it has LISTEN_FDS.
    ``output`` becomes both stdout and stderr.  Raises KernelError when the program cannot be
    executed (ENOENT, EACCES) or its user cannot be taken on (EPERM).
    """
    told, tell = os.pipe()  # close-on-exec: it closes silently when exec has worked
    pid = os.fork()
    if pid == 0:  # pragma: no cover  this branch ends in exec
        # Out of the way of the numbers that the worker's listeners will get.
        tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, FIRST_FD + len(inherit))
        try:
            _become(argv, dict(env), inherit, output, identity)
        except OSError as error:
            os.write(tell, f"{error.errno or errno.EINVAL} {error.filename2 or ''}".encode())
        except BaseException as error:  # noqa: BLE001  nothing may unwind into the parent's code
            os.write(tell, f"{errno.EINVAL} {error!r}".encode())
        os._exit(127)
    os.close(tell)
    with open(told, "rb") as pipe:
        trouble = pipe.read().decode()
    if trouble:
        os.waitpid(pid, 0)
        number, _, what = trouble.partition(" ")
        raise _cannot(argv[0], int(number), what, identity)
    return Child(pid, os.pidfd_open(pid))


def _cannot(program: str, number: int, what: str, identity: Identity | None) -> KernelError:
    if number == errno.EPERM and identity is not None:
        return KernelError(
            "setuid",
            number,
            f"starting {program} as user {identity.name}",
            "only root (CAP_SETUID) may change to another user",
        )
    advice = {
        errno.ENOENT: "there is no such program; check the spelling, PATH and its #! line",
        errno.EACCES: "it is not executable, or its directory cannot be entered",
        errno.ENOEXEC: "it is no program this kernel can run; does the script lack its #! line?",
    }.get(number, what)
    return KernelError("execvpe", number, f"starting {program}", advice)


def _become(
    argv: Sequence[str],
    env: dict[str, str],
    inherit: Sequence[int],
    output: int | None,
    identity: Identity | None,
) -> None:  # pragma: no cover  runs in the child
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
        # Caught signals reset at exec; ignored ones (Python ignores SIGPIPE) would not.
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    above = FIRST_FD + len(inherit)
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in inherit]
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
    for place, fd in enumerate(aside):
        os.dup2(fd, FIRST_FD + place)
    if "LISTEN_FDS" in env:
        env["LISTEN_PID"] = str(os.getpid())
    if identity is not None:
        if os.geteuid() == 0:
            os.setgroups(identity.groups)
        os.setgid(identity.gid)
        os.setuid(identity.uid)
        env.update(USER=identity.name, LOGNAME=identity.name, HOME=identity.home)
    os.execvpe(argv[0], list(argv), env)


def reap() -> list[tuple[int, int]]:
    """Every child that has ended, ours and adopted ones: (pid, exit code or -signal).

    As PID 1, or as a subreaper, others' children become ours when their parents die; they are
    reaped so that no zombie stays, and the caller judges only those it knows.
    """
    ended = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def outcome(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "ended (its exit status went to an earlier supervisor)"
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
