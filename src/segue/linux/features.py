"""What this kernel, with these permissions, can do: found out by trying, never by its version.

Each question has three answers.  A yes or no is remembered for as long as the process runs, except
of a setting, which anybody may change.  Could-not-tell is asked again: a process without the
permission to try learns nothing about the kernel, and permissions change.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R5, Alu, Helper, Instruction, Size
from segue.errors import KernelError, NotSupported, SegueError, VerifierError
from segue.linux import bpf, cbpf, netns, niceness, pidfd, snmp, sock_diag, sysctl
from segue.linux.bpf_attr import AttachType

MIGRATE_SYSCTL = "net.ipv4.tcp_migrate_req"
_MIGRATING_SK = 48  # of struct sk_reuseport_md (include/uapi/linux/bpf.h)
_NOT_HERE = {errno.ENOSYS, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}


class Answer(Enum):
    """Yes, no, or neither: what was tried says nothing of the kernel."""

    YES = "yes"
    NO = "no"
    COULD_NOT_TELL = "could not tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer and the sentence that explains it."""

    answer: Answer
    reason: str

    def __bool__(self) -> bool:
        """The answer is yes for sure."""
        return self.answer is Answer.YES


_known: dict[str, Finding] = {}


def ask(name: str) -> Finding:
    """The answer for one of FEATURES, from memory if it is certain.  Raises KeyError."""
    attempt = FEATURES[name]
    found = _known.get(name)
    if found is None:
        found = judge(attempt)
        if found.answer is not Answer.COULD_NOT_TELL and name not in _SETTINGS:
            _known[name] = found
    return found


def judge(attempt: Callable[[], str]) -> Finding:
    """Try it: what it returns is the reason of a yes, what it raises that of another answer."""
    try:
        return Finding(Answer.YES, attempt())
    except (NotSupported, VerifierError) as error:
        return Finding(Answer.NO, str(error))
    except (SegueError, OSError) as error:
        missing = isinstance(error, OSError) and error.errno in _NOT_HERE
        return Finding(Answer.NO if missing else Answer.COULD_NOT_TELL, str(error))


def _listener() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", 0))
    made.listen(1)
    return made


def _reuseport_cbpf() -> str:
    with _listener() as listener:
        cbpf.attach_reuseport(listener, [cbpf.answer(0)])
    return "classic BPF steers a reuseport group"


def _ebpf_reuseport() -> str:
    """A program that looks at what migrates, and lets the kernel decide.

    Linux 5.10 takes one that does not look, and never asks it.
    """
    program = asm.assemble(
        [asm.load(Size.U64, R2, R1, _MIGRATING_SK), asm.mov_imm(R0, 1), asm.leave()]
    )
    _load(program, AttachType.SELECT_OR_MIGRATE, "migration by eBPF", "Linux 5.14 or later")
    return "the verifier takes a program that selects and migrates"


def _ebpf_bind() -> str:
    """A program that sets SO_REUSEPORT at bind(2)."""
    program = asm.assemble(
        [
            asm.store_imm(Size.U32, FP, -4, 1),
            asm.mov_imm(R2, socket.SOL_SOCKET),
            asm.mov_imm(R3, socket.SO_REUSEPORT),
            asm.mov_reg(R4, FP),
            asm.alu_imm(Alu.ADD, R4, -4),
            asm.mov_imm(R5, 4),
            asm.call(Helper.SETSOCKOPT),
            asm.mov_imm(R0, 1),
            asm.leave(),
        ]
    )
    _load(program, AttachType.INET4_BIND, "setting options at bind(2)", "Linux 5.15 or later")
    return "the verifier takes a program that sets options at bind(2)"


def _load(program: list[Instruction], asked: AttachType, feature: str, needs: str) -> None:
    """Raises NotSupported when the kernel knows no such program, whoever asks."""
    try:
        bpf.Program.load(program, name="segue_trial", attach_type=asked).close()
    except VerifierError as error:
        raise NotSupported(feature, needs, error.summary) from error
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        raise NotSupported(feature, needs, str(error)) from error


def _tcp_filter() -> str:
    with _listener() as listener:
        cbpf.attach_filter(listener, [cbpf.answer(0)])
    return "a listener's packets can be dropped"


def _pidfd_open() -> str:
    with pidfd.opened(os.getpid()):
        return "processes can be watched by descriptor"


def _pidfd_getfd() -> str:
    with pidfd.opened(os.getpid()) as own, _listener() as listener:
        os.close(pidfd.getfd(own, listener.fileno()))
    return "descriptors of this user's processes can be duplicated"


def _sock_diag() -> str:
    with _listener() as listener, sock_diag.SockDiag() as diag:
        port = listener.getsockname()[1]
        if not diag.listeners(port, socket.AF_INET):
            raise NotSupported("sock_diag", "a kernel that lists listeners", "a list without ours")
    return "sockets are listed with their queues"


def _migrate_sysctl() -> str:
    return f"{MIGRATE_SYSCTL} is {sysctl.read(MIGRATE_SYSCTL)}"


def _migrate_counters() -> str:
    if "TcpExt.TCPMigrateReqSuccess" not in snmp.read():
        raise NotSupported("migration counters", "Linux 5.14", "no TCPMigrateReqSuccess")
    return "migrations are counted"


def _own_netns() -> str:
    with netns.fresh():
        return "a network namespace can be made"


def _nice_and_back() -> str:
    if niceness.can_return():
        return "new workers can leave processors to those that serve"
    raise NotSupported(
        "giving way at the start", "CAP_SYS_NICE, or an RLIMIT_NICE of 20", "neither of them"
    )


FEATURES: dict[str, Callable[[], str]] = {
    "reuseport_cbpf": _reuseport_cbpf,
    "ebpf_reuseport": _ebpf_reuseport,
    "ebpf_bind": _ebpf_bind,
    "tcp_filter": _tcp_filter,
    "pidfd_open": _pidfd_open,
    "pidfd_getfd": _pidfd_getfd,
    "sock_diag": _sock_diag,
    "migrate_sysctl": _migrate_sysctl,
    "migrate_counters": _migrate_counters,
    "own_netns": _own_netns,
    "nice_and_back": _nice_and_back,
}
_SETTINGS = {"migrate_sysctl"}
