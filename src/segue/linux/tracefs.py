"""One tracepoint, listened to in a tracing instance of our own (tracefs, Documentation/trace).

The instance keeps us out of the way of other tracers; it is removed on close.  Where tracefs is not
mounted it is opened without mounting it anywhere (fsmount(2)), so nothing is left behind.  Needs
root.  Left out: every format but the text of trace_pipe.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from contextlib import suppress
from dataclasses import dataclass

from segue.errors import KernelError, NotSupported
from segue.linux.closing import Closing

USUAL = "/sys/kernel/tracing"
# The numbers are the same on every architecture but alpha (asm-generic/unistd.h).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_ADVICE = "it needs CAP_SYS_ADMIN in the initial user namespace, and CONFIG_TRACING"
_CHUNK = 65536

# Such as "  python-712  [001] ..s1.  93.218470: tcp_send_reset: state=UNKNOWN reason=NO_SOCKET".
# A task's name may have spaces, brackets and colons in it; the event's own name is known.
_LINE = r"\s(?P<at>\d+\.\d+): {event}: (?P<fields>.*)$"
_FIELD = re.compile(r"(\w+)=(\S+)")
_LOST = re.compile(r"\[LOST (\d+) EVENTS\]")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """When it was (CLOCK_MONOTONIC, seconds) and its fields as the kernel prints them."""

    at: float
    fields: dict[str, str]


def parse(text: str, event: str) -> tuple[list[Event], int]:
    """The events in these lines of trace_pipe, and how many the kernel says it dropped."""
    line = re.compile(_LINE.format(event=re.escape(event)))
    found, lost = [], 0
    for one in text.splitlines():
        if match := line.search(one):
            fields = dict(_FIELD.findall(match["fields"]))
            found.append(Event(float(match["at"]), fields))
        elif dropped := _LOST.search(one):
            lost += int(dropped[1])
    return found, lost


class Tracepoint(Closing):
    """Events of one tracepoint, such as ("tcp", "tcp_send_reset"), from now until ``close``.

    ``only`` is a condition on the event's fields that is tested in the kernel, such as
    ``sport == 80`` (Documentation/trace/events, 5).  Raises KernelError when tracing is not allowed
    here, NotSupported when this kernel has no such event or the event no such field.  ``lost``
    counts events that were not read in time.
    """

    def __init__(self, system: str, event: str, field: str = "", only: str = "") -> None:
        self.lost = 0
        self._event, self._rest = event, ""
        self._pipe = -1
        self._root = _open_root()
        self._instance = f"instances/segue-{os.getpid()}-{id(self):x}"
        self._where = f"{self._instance}/events/{system}/{event}"
        try:
            self._make()
            self._listen(f"{system}:{event}", field, only)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable while an event waits; -1 when closed."""
        return self._pipe

    def read(self) -> list[Event]:
        """What happened since the last call; does not wait.  Raises KernelError."""
        found: list[Event] = []
        while data := self._chunk():
            whole, _, self._rest = (self._rest + data.decode("utf-8", "replace")).rpartition("\n")
            events, lost = parse(whole, self._event)
            found += events
            self.lost += lost
        return found

    def close(self) -> None:
        """Stop and remove the instance; may be called again."""
        if self._root < 0:
            return
        with suppress(KernelError):
            self._write(f"{self._where}/enable", "0")
        if self._pipe >= 0:
            os.close(self._pipe)
        # While anything in it is open the instance is busy; what is not there is gone already.
        with suppress(OSError):
            os.rmdir(self._instance, dir_fd=self._root)
        os.close(self._root)
        self._root = self._pipe = -1

    def _make(self) -> None:
        _remove_stale(self._root)
        try:
            os.mkdir(self._instance, 0o700, dir_fd=self._root)
        except OSError as error:
            raise KernelError("mkdir", error.errno or 0, "making a tracing instance") from error

    def _listen(self, name: str, field: str, only: str) -> None:
        try:
            form = self._open(f"{self._where}/format", os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise KernelError("open", error.errno or 0, f"looking for {name}") from error
            raise NotSupported(
                f"the cause of each event {name}", "this tracepoint", "none"
            ) from None
        with os.fdopen(form) as file:
            if field and not re.search(rf"\b{re.escape(field)};", file.read()):
                here = "a kernel whose event has none"
                raise NotSupported(f"the cause of each event {name}", f"its field {field}", here)
        if only:
            self._write(f"{self._where}/filter", only)
        self._write(f"{self._instance}/trace_clock", "mono")
        # Or a poll would wake only when half of the buffer is full.
        self._write(f"{self._instance}/buffer_percent", "0")
        self._pipe = self._open(f"{self._instance}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        self._write(f"{self._where}/enable", "1")

    def _chunk(self) -> bytes:
        try:
            return os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise KernelError("read", error.errno or 0, "reading the trace") from error

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._root)

    def _write(self, path: str, text: str) -> None:
        try:
            file = self._open(path, os.O_WRONLY)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
        except OSError as error:
            raise KernelError("write", error.errno or 0, f"writing {text} to {path}") from error


def _open_root() -> int:
    """A descriptor of tracefs, mounted or not.  Raises KernelError."""
    if os.path.isdir(f"{USUAL}/instances"):
        try:
            return os.open(USUAL, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", error.errno or 0, f"opening {USUAL}", _ADVICE) from error
    context = _call("fsopen", _FSOPEN, b"tracefs", _FSOPEN_CLOEXEC)
    try:
        _call("fsconfig", _FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _call("fsmount", _FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _call(name: str, number: int, *args: bytes | int | None) -> int:
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in args]
    found = int(_libc.syscall(ctypes.c_long(number), *given))
    if found < 0:
        raise KernelError(name, ctypes.get_errno(), "opening tracefs", _ADVICE)
    return found


def _remove_stale(root: int) -> None:
    """Instances of processes that were killed before they could remove theirs."""
    with suppress(OSError):
        instances = os.open("instances", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            for name in os.listdir(instances):
                owner = re.fullmatch(r"segue-(\d+)-[0-9a-f]+", name)
                if owner and not os.path.exists(f"/proc/{owner[1]}"):
                    with suppress(OSError):
                        os.rmdir(name, dir_fd=instances)
        finally:
            os.close(instances)
