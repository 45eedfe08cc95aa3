"""A host: a network namespace with interfaces, threads and programs of its own."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from segue.errors import KernelError, NotSupported, UsageError
from segue.linux import netns, pidfd, route, sysctl
from segue.linux.closing import Closing
from segue.linux.tun import Tun

T = TypeVar("T")

# Packets that wait for the cable: two thousand connections may begin within one of its rounds,
# and what the interface drops would be a loss that was not asked for.
QUEUE = 10_000
STOP_S = 5.0  # for a program to end when asked, before it is killed; for a thread to end
KILL_S = 10.0  # for the kernel to end what was killed


class Host(Closing):
    """A network namespace with loopback up and no other interface yet.

    It needs CAP_SYS_ADMIN.  Sockets belong to the host in which they are made, whichever host uses
    them afterwards.
    """

    def __init__(self, name: str, *, stop_s: float = STOP_S) -> None:
        self.name = name
        self._stop_s = stop_s
        with netns.fresh() as inside:
            self._namespace = os.dup(inside)
        self._programs: list[subprocess.Popen[Any]] = []
        self._threads: list[threading.Thread] = []
        self._tuns: list[Tun] = []

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this host within the block, and where it was after it."""
        self._check_open()
        home = netns.current()
        try:
            netns.enter(self._namespace)
            try:
                yield
            finally:
                netns.enter(home)
        finally:
            os.close(home)

    def run(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """What the function returns or raises, from a thread of its own in this host."""
        self._check_open()
        future: Future[T] = Future()

        def work() -> None:
            try:
                # The thread ends here, so its former namespace is not needed any more.
                netns.enter(self._namespace)
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - the future tells it
                future.set_exception(error)

        thread = threading.Thread(target=work, name=f"{self.name}-thread", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        return future

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in this host, in a session of its own; ``options`` are Popen's."""
        with self.inside():
            made = subprocess.Popen(argv, start_new_session=True, **options)
        self._programs.append(made)
        return made

    def plug(self, address: str, *, mtu: int = 1500) -> Tun:
        """An interface that is up, with an IPv4 address such as 10.9.0.1/16; the host owns it.

        The first one has the default route.  It speaks no IPv6, so nothing is sent unasked.
        """
        with self.inside():
            made = Tun("link%d")
            self._tuns.append(made)
            with suppress(NotSupported):  # a kernel without IPv6 has nothing to say either
                sysctl.write(f"net.ipv6.conf.{made.name}.disable_ipv6", "1")
            made.configure(address, mtu=mtu, queue=QUEUE)
            if len(self._tuns) == 1:
                route.add_route("0.0.0.0/0", made.name)
        return made

    def add_address(self, address: str) -> None:
        """One more IPv4 address at the first interface.  Raises KernelError, UsageError."""
        if not self._tuns:
            raise UsageError(f"host {self.name} has no interface yet")
        with self.inside():
            route.add_address(self._tuns[0].name, address)

    def dropped(self) -> int:
        """Packets that overflowed an interface, which no link has seen; 0 unless overloaded."""
        with self.inside():
            return sum(route.dropped(tun.name) for tun in self._tuns)

    def close(self) -> None:
        """End every process in the host, remove its interfaces, let go of it; twice is no error.

        Programs are asked to end and killed ``stop_s`` later.  Threads cannot be killed: when one
        does not end in that time, this raises TimeoutError after all else is gone; likewise for a
        process that the kernel does not end.
        """
        if self._namespace < 0:
            return
        with ExitStack() as stack:
            stack.callback(self._forget)
            for tun in self._tuns:
                stack.callback(tun.close)
            self._end_processes()
            limit = time.monotonic() + self._stop_s
            for thread in self._threads:
                thread.join(max(0.0, limit - time.monotonic()))
                if thread.is_alive():
                    raise TimeoutError(f"a function still runs in host {self.name}")

    def _check_open(self) -> None:
        if self._namespace < 0:
            raise UsageError(f"host {self.name} was closed")

    def _forget(self) -> None:
        os.close(self._namespace)
        self._namespace = -1

    def _end_processes(self) -> None:
        for program in self._programs:
            if program.poll() is None:
                program.terminate()
        limit = time.monotonic() + self._stop_s
        for program in self._programs:
            with suppress(subprocess.TimeoutExpired):
                program.wait(max(0.0, limit - time.monotonic()))
            if program.poll() is None:
                program.kill()
        # Whatever they started, in whatever session: the namespace is what they have in common.
        limit = time.monotonic() + KILL_S
        while left := self._processes():
            for process in left:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            ended = [_wait_ended(process, limit) for process in left]
            for process in left:
                os.close(process)
            if not all(ended):
                raise TimeoutError(f"{ended.count(False)} processes of host {self.name} do not end")
        for program in self._programs:
            program.wait(KILL_S)
        for program in self._programs:
            for stream in (program.stdin, program.stdout, program.stderr):
                if stream is not None:
                    with suppress(OSError):  # a pipe without a reader
                        stream.close()

    def _processes(self) -> list[int]:
        """Descriptors of the living processes in this host but ours; the caller closes them."""
        here = os.stat(self._namespace)
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                descriptor = pidfd.open_process(int(entry))
            except KernelError as error:
                if error.errno == errno.ESRCH:
                    continue
                raise
            # Read after the descriptor was opened: now no other process can have the number.
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{entry}/ns/net"), here):
                    found.append(descriptor)
                    continue
            os.close(descriptor)
        return found


def _wait_ended(process: int, limit: float) -> bool:
    """The process of this descriptor ended before the limit."""
    poll = select.poll()  # which, unlike select(), takes descriptors above 1,023
    poll.register(process, select.POLLIN)
    return bool(poll.poll(max(0.0, limit - time.monotonic()) * 1000))
