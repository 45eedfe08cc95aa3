"""Every error Segue raises on purpose.  Imports from Segue only what makes text visible.

The class says whose fault it is; the fields say what a program needs to react; the message is one
sentence that says what, where and what to do.  The command line turns a class into an exit code by
``exit_code``: 2 for usage, 1 for the rest.
"""

from __future__ import annotations

import errno as errno_names
import os


class SegueError(Exception):
    """Root of the tree: catch this to catch all of Segue, and only Segue."""

    exit_code = 1


class UsageError(SegueError):
    """You asked for something that makes no sense; nothing was done."""

    exit_code = 2


class StartRefused(UsageError):
    """What the settings name for a worker is gone or no good; its program is not to blame."""


class PolicyError(UsageError):
    """A policy says what no program can do: where, the text underlined, and what to write instead.

    ``line`` and ``column`` count from 1, ``source`` is the whole line.
    """

    def __init__(
        self, file: str, line: int, column: int, source: str, width: int, why: str, instead: str
    ) -> None:
        self.file, self.line, self.column, self.source = file, line, column, source
        self.why, self.instead = why, instead
        text = source.rstrip()
        under = " " * (column - 1) + "^" * max(1, min(width, len(text) - column + 1))
        super().__init__(f"{file}:{line}:{column}: {why}\n  {text}\n  {under}\n  {instead}")


class ScriptError(UsageError):
    """A packetdrill script cannot be read, or asks for what the lab does not do: where, and why.

    ``line`` and ``column`` count from 1; ``why`` says what was expected there.
    """

    def __init__(self, file: str, line: int, column: int, why: str) -> None:
        self.file, self.line, self.column, self.why = file, line, column, why
        super().__init__(f"{file}:{line}:{column}: {why}")


class ProgramFault(UsageError):
    """A program for the kernel does what no verifier would let it: in which slot, and what."""

    def __init__(self, slot: int, why: str) -> None:
        self.slot, self.why = slot, why
        super().__init__(f"slot {slot} of the program: {why}")


class IllegalInput(UsageError):
    """A machine has no row for this input; nothing was changed."""

    exit_code = 1

    def __init__(self, who: str, state: str, given: str, legal: list[str]) -> None:
        self.who, self.state, self.given, self.legal = who, state, given, legal
        super().__init__(f"{who}: {given} in {state} (legal here: {', '.join(legal) or 'nothing'})")


class WireError(SegueError):
    """The peer sent nonsense: where in the message, why, and the bytes."""

    def __init__(self, where: str, why: str, data: bytes = b"") -> None:
        self.where, self.why, self.data = where, why, data
        super().__init__(f"{where}: {why}" + (f" ({data[:32].hex()})" if data else ""))


class KernelError(SegueError, OSError):
    """The kernel said no.  Also an OSError: ``errno`` is the kernel's own word."""

    def __init__(self, call: str, errno: int, doing: str, advice: str = "") -> None:
        self.call, self.doing, self.advice = call, doing, advice
        OSError.__init__(self, errno, os.strerror(errno))

    @property
    def name(self) -> str:
        """The symbolic name of the errno, such as EPERM."""
        return errno_names.errorcode.get(self.errno or 0, str(self.errno))

    def __str__(self) -> str:
        tail = f"; {self.advice}" if self.advice else ""
        return f"{self.doing}: {self.call} failed with {self.name} ({self.strerror}){tail}"


class VerifierError(KernelError):
    """The kernel's verifier refused a program; ``log`` is all that it said."""

    def __init__(self, errno: int, doing: str, log: str, program: str = "") -> None:
        self.log, self.program = log, program
        # From Linux 7.3 on an explanation follows the reason, and advice follows that.
        said = log.partition("Verification failed:")[0]
        lines = [line for line in said.splitlines() if line.strip()]
        # The reason stands just above the closing statistics; a cleverer guess would be wrong
        # in its own new ways, and the whole log is kept in the field.
        reasons = [
            line for line in lines if not line.startswith(("processed ", "verification time"))
        ]
        self.summary = reasons[-1].strip() if reasons else "the verifier gave no reason"
        super().__init__("bpf(BPF_PROG_LOAD)", errno, doing)

    def __str__(self) -> str:
        more = max(0, len(self.log.splitlines()) - 1)
        return f"{super().__str__()}: {self.summary} ({more} more lines in .log)"


class NotSupported(SegueError):
    """This kernel or permission set cannot: the feature, what it needs, what is here."""

    def __init__(self, feature: str, needs: str, has: str) -> None:
        self.feature, self.needs, self.has = feature, needs, has
        super().__init__(f"{feature} needs {needs}; here: {has}")


class InternalError(SegueError):
    """A bug in Segue; please report it with the traceback."""
