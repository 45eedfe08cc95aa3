"""Start one worker with its descriptors, environment and user; never through a shell.

fork(2) and exec(3) are called directly, because LISTEN_PID must be the pid of the process that
calls exec (sd_listen_fds(3)), and ``subprocess`` cannot know it.  Fork is safe: there is only one
thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.errors import KernelError
from segue.linux import cgroup, close_range, niceness
from segue.supervisor.settings import FIRST_FD
from segue.supervisor.workers.identity import Identity, Rights, become


@dataclass(frozen=True, slots=True)
class Child:
    """A started process.  ``pidfd`` is readable when it has ended; the holder closes it."""

    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Lowest:
    """Which nice values of a process are the lowest from exec on."""

    threads: bool = False
    session: bool = False


class Spawning(Protocol):
    """The shape of ``spawn``."""

    def __call__(
        self,
        argv: list[str],
        *,
        env: dict[str, str],
        inherit: list[int],
        output: int | None,
        identity: Identity | None,
        rights: Rights,
        files: tuple[int, int] | None,
        cgroup_door: int | None,
        processors_door: int | None,
        directory: int | None,
        enter_as_user: bool,
        lowest: Lowest,
    ) -> Child:
        """Start a process.  Raises KernelError."""


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    inherit: Sequence[int] = (),
    output: int | None = None,
    identity: Identity | None = None,
    rights: Rights = Rights(),  # noqa: B008  it cannot be changed
    files: tuple[int, int] | None = None,
    cgroup_door: int | None = None,
    processors_door: int | None = None,
    directory: int | None = None,
    enter_as_user: bool = False,
    lowest: Lowest = Lowest(),
) -> Child:
    """Run ``argv`` in a session of its own with ``inherit`` as descriptors 3, 4, ...

    ``env`` is the whole environment; LISTEN_PID is added if it has LISTEN_FDS. ``output`` becomes
    both stdout and stderr.  ``files`` are its soft and hard RLIMIT_NOFILE. ``cgroup_door`` is a
    descriptor of cgroup.procs; the process enters this cgroup before exec.  It also enters that of
    ``processors_door``, and goes on without if it cannot.  ``directory`` is a
    descriptor of the directory to start in; with ``enter_as_user`` the process must have the right
    to enter it also as its user, or the error's ``call`` is CHDIR.  ``lowest`` says what begins
    with the lowest nice value.  Raises KernelError and leaves nothing behind: EAGAIN or EMFILE at
    the limit of processes or descriptors, ENOENT or EACCES if the program cannot be executed, EPERM
    if the process cannot become its user or give up rights.  ETIMEDOUT if the process does not
    reach exec in time: then it is killed, and reaped when it has ended.
    """
    with _refusals("pipe2", argv[0]):
        told, tell = os.pipe()  # close-on-exec: it closes without a message if exec succeeds
    # The child shares the supervisor's wake-up descriptor.  Until it has its own session and
    # handlers, a signal to it would be written there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with _refusals("fork", argv[0]):
            pid = os.fork()
    except KernelError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(told)
        os.close(tell)
        raise
    if pid == 0:  # pragma: no cover  this branch ends in exec
        # Move it away from the numbers that the worker's listeners will get.
        tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, FIRST_FD + len(inherit))
        try:
            if cgroup_door is not None:
                _enter(cgroup_door)
            if processors_door is not None:
                with contextlib.suppress(OSError):
                    cgroup.enter(processors_door)
            if directory is not None:
                os.fchdir(directory)
            os.setsid()
            _become(
                *(argv, dict(env), inherit, output, identity, rights, files, enter_as_user),
                gently=lowest.threads,
            )
        except OSError as error:
            os.write(tell, f"{error.errno or errno.EINVAL} {error.filename2 or ''}".encode())
        except BaseException as error:  # noqa: BLE001  nothing may unwind into the parent's code
            os.write(tell, f"{errno.EINVAL} {error!r}".encode())
        os._exit(127)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(tell)
    with open(told, "rb") as pipe:
        if not select.select([pipe], [], [], _BEGIN_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
            advice = f"it did not begin within {_BEGIN_SECONDS:g} s: is its cgroup frozen?"
            raise KernelError("execvpe", errno.ETIMEDOUT, f"starting {argv[0]}", advice)
        trouble = pipe.read(_MOST_TROUBLE).decode(errors="replace")
    if trouble:
        os.waitpid(pid, 0)
        number, _, what = trouble.partition(" ")
        raise _cannot(argv[0], int(number), what, env.get("PATH", os.defpath))
    if lowest.session:
        niceness.change_session(pid, niceness.LOWEST)
    try:
        with _refusals("pidfd_open", argv[0]):
            return Child(pid, os.pidfd_open(pid))
    except KernelError:
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
        os.waitpid(pid, 0)
        raise


@contextlib.contextmanager
def _refusals(call: str, program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        raise KernelError(call, number, f"starting {program}", _ADVICE.get(number, "")) from error


CHDIR = "chdir"
_SIGNALS = signal.valid_signals()  # which takes 0.1 ms
_BEGIN_SECONDS = 10.0  # from fork to exec; meanwhile the supervisor waits
_MOST_TROUBLE = 1 << 16  # bytes: an errno and a path, or the words of an exception
# Where Debian has nginx and Apache; the PATH of an ordinary user has none of these.
_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"
_ADVICE = {
    errno.EAGAIN: "no more processes are allowed: see ulimit -u, or TasksMax of the unit",
    errno.EMFILE: "no more descriptors are allowed: see ulimit -n, or LimitNOFILE of the unit",
}


def _cannot(program: str, number: int, what: str, path: str) -> KernelError:
    advice = {
        errno.ENOENT: _missing(program, path),
        errno.EACCES: (
            "it, or the program of its #! line, is not executable,"
            " or is in a directory that the worker may not enter"
        ),
        errno.ENOEXEC: "this kernel cannot run it; does the script lack its #! line?",
    }.get(number, "")
    if what == CHDIR:
        return KernelError(CHDIR, number, f"starting {program}")
    call = "preparing" if what else "execvpe"
    return KernelError(call, number, f"starting {program}", what or advice)


def _missing(program: str, path: str) -> str:
    if "/" not in program and shutil.which(program, path=path) is None:
        elsewhere = shutil.which(program, path=_ADMINISTRATORS)
        if elsewhere:
            return f"it is not in PATH, and there is {elsewhere}: write that"
    return "there is no such program; check the spelling, PATH and its #! line"


def _enter(door: int) -> None:  # pragma: no cover  runs in the child
    try:
        cgroup.enter(door)
    except OSError as error:
        said = "it could not be moved into its cgroup"
        raise OSError(error.errno, error.strerror, "", None, said) from error


def _become(
    argv: Sequence[str],
    env: dict[str, str],
    inherit: Sequence[int],
    output: int | None,
    identity: Identity | None,
    rights: Rights,
    files: tuple[int, int] | None,
    enter_as_user: bool,  # noqa: FBT001  as ``spawn`` has it
    *,
    gently: bool,
) -> None:  # pragma: no cover  runs in the child
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
        # Caught signals reset at exec; ignored ones (Python ignores SIGPIPE, SIGXFSZ) would not.
        if signal.getsignal(number) not in {None, signal.SIG_DFL}:
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
    # Descriptors that the shell of the supervisor had open are not for workers of another user.
    close_range.close_on_exec(above)
    become(identity, rights)
    if identity is not None:
        env.update(USER=identity.name, LOGNAME=identity.name, HOME=identity.home)
    if enter_as_user:
        try:
            os.chdir(".")
        except OSError as error:
            raise OSError(error.errno, error.strerror, "", None, CHDIR) from error
    if files is not None:
        # Last, because until here descriptors above the new limit are open.
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
    if gently:
        # Not before: until exec the supervisor waits, and it would wait as long as the newcomer.
        os.setpriority(os.PRIO_PROCESS, 0, niceness.LOWEST)
    os.execvpe(argv[0], list(argv), env)


def raise_file_limit() -> tuple[int, int]:
    """Raise this process's limit of descriptors, and return the old limits, for its workers.

    The soft limit is usually 1024, because programs that use select(2) need that.  A supervisor of
    many workers needs more: each worker takes a listener, a pipe and a pidfd, twice in a restart.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


def reap() -> list[tuple[int, int]]:
    """Every child that has ended, our own and adopted ones: (pid, exit code or -signal).

    As PID 1 or as a subreaper we become the parent of processes whose parents die.  They are reaped
    so that no zombie stays.  The caller looks only at those that it knows.
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
