"""A comparison on Linux: two hosts with a link between them, and a process in each."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import IO

from segue.errors import InternalError, NotSupported
from segue.lab.comparing import lines
from segue.lab.comparing.ledger import Outcome, outcome
from segue.lab.comparing.settings import PATIENCE_S, Settings
from segue.lab.hosts import Host
from segue.lab.link import Conditions
from segue.lab.scenario import distance
from segue.lab.ways.leaving import Way
from segue.linux import realtime, sysctl

_STARTS_S = 60.0  # on a busy machine; it takes half a second
_ENDS_S = 30.0  # beyond what the clients wait for
_BEGINS_IN_S = 0.1  # for both to hear of it


def measure(settings: Settings, way: Way | None) -> Outcome:
    """What one restart costs here.  Needs CAP_SYS_ADMIN and /dev/net/tun; takes some seconds.

    Raises KernelError, NotSupported for a way that is not to be had here, and InternalError with
    what a process complained of.

    The cable, the servers and the clients go before other work of this machine where they may
    (CAP_SYS_NICE).  Whoever waits for a processor gets its packets in bunches, and a queue of one
    place drops most of a bunch: without priority backlog-zero lost 22 to 41 half-open requests on a
    busy machine where it loses 3 to 9 (round trip 200 ms).
    """
    with ExitStack() as stack:
        with realtime.urgent():  # and so has the thread that is started here
            there = distance(Conditions(delay_s=settings.rtt_s / 2))
            between = stack.enter_context(there)
        with between.server.inside():
            for name, value in way.sysctls.items() if way is not None else ():
                sysctl.write(name, value)
        given = lines.told(settings)
        name = way.name if way is not None else ""
        servers = _start(between.server, "servers", given, name)
        clients = _start(between.client, "dialling", given)
        with realtime.urgent():
            begins = time.monotonic() + _BEGINS_IN_S
            for one in (servers, clients):
                _to(one.stdin).write(f"{begins}\n")
                _to(one.stdin).flush()
        ends = lines.ends(_line(clients, settings.length_s + PATIENCE_S + _ENDS_S))
        _to(servers.stdin).close()
        served = lines.served(_line(servers, _ENDS_S))
        for one in (servers, clients):
            _check_ended(one)
        return outcome(settings, ends, served)


def _start(host: Host, module: str, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", f"segue.lab.comparing.{module}", *arguments]
    pipe = subprocess.PIPE
    made = host.spawn(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    said = _line(made, _STARTS_S)
    if said != lines.READY:
        needs = "a kernel and permissions that allow it (see the table)"
        raise NotSupported(f"the way {arguments[-1]}", needs, said.strip())
    return made


def _line(process: subprocess.Popen[str], seconds: float) -> str:
    """The next that it says."""
    out = _to(process.stdout)
    if not select.select([out], [], [], seconds)[0]:
        raise InternalError(f"{process.args!r} said nothing for {seconds:g} s")
    line = out.readline()
    if not line:
        raise InternalError(f"{process.args!r} ended: {_to(process.stderr).read()[-2000:]}")
    return line


def _check_ended(process: subprocess.Popen[str]) -> None:
    """By itself, and without a complaint: what fails in an asyncio loop is only logged."""
    process.wait(_ENDS_S)
    if complaint := _to(process.stderr).read():
        raise InternalError(f"{process.args!r} complained: {complaint[-2000:]}")


def _to(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
