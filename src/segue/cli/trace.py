"""``segue trace``: show every decision about a connection as it happens."""

from __future__ import annotations

import select
import time
from typing import Any

import click

from segue.cli.shared.instance import found, instance_options
from segue.cli.shared.telling import tell, tell_json
from segue.supervisor.control.instances import Running

_LOOK_AGAIN = 1.0  # seconds
_MOST_BYTES = 1 << 16
_KINDS = {0: "new", 1: "request", 2: "child", 3: "fastopen"}


@click.command()
@instance_options
@click.option(
    "--bind", default="", metavar="ADDRESS", help="The address to watch.  [default: the first]"
)
@click.option("--json", "as_json", is_flag=True, help="Print each as a line of JSON.")
@click.option("--count", type=int, default=0, help="Stop after this many.  [default: never]")
def trace(name: str, control: str, bind: str, *, as_json: bool, count: int) -> int:
    """Show every decision about a connection as it happens.

    Each line has the time, the kind of decision, the client, and the worker that gets the
    connection.  A connection that migrates also shows the worker it comes from.  One that had been
    accepted, and is carried, shows only that.  Stop with Ctrl-C.
    When no trace runs, tracing costs nothing.
    """
    from segue.engine.trace import TraceReader  # noqa: PLC0415  --help needs none of it
    from segue.supervisor.control.client import borrow, parsed  # noqa: PLC0415
    from segue.supervisor.control.requests import Trace  # noqa: PLC0415

    instance = found(name, control)
    shown = 0
    with borrow(instance, Trace(bind)) as (connection, descriptors):
        reader = TraceReader(*descriptors)
        names = _Names(instance, bind)
        behind = time.time() - time.monotonic()
        lost, heard = 0, b""
        try:
            while True:
                watched = [reader.fileno(), connection.fileno()]
                ready, _, _ = select.select(watched, [], [], _LOOK_AGAIN)
                for one in reader.events():
                    decision = _decision(one, names, reader, behind)
                    if as_json:
                        tell_json(decision)
                    else:
                        tell(_line(decision))
                    shown += 1
                    if shown == count:
                        return 0
                if (more := reader.lost()) != lost:
                    tell(f"segue: {more - lost} decision(s) came too fast to be shown", err=True)
                    lost = more
                if watched[1] in ready:
                    data = connection.recv(_MOST_BYTES)
                    if not data:
                        tell("segue: the instance has ended the trace", err=True)
                        return 1
                    *lines, heard = (heard + data).split(b"\n")
                    for line in lines:
                        carried = _carried(parsed(line, instance.control), behind)
                        if as_json:
                            tell_json(carried)
                        else:
                            tell(_line_of_carried(carried))
        finally:
            reader.close()


class _Names:
    """What the slots of one address are called, asked again each second: slots are used again."""

    def __init__(self, instance: Running, bind: str) -> None:
        self._instance, self._bind = instance, bind
        self._known: dict[int, str] = {}
        self._asked = 0.0

    def of(self, slot: int | None) -> str:
        """The worker, or the slot when no worker has it."""
        from segue.supervisor.control.client import status  # noqa: PLC0415

        if slot is None:
            return "the kernel's hash"
        if slot not in self._known or time.monotonic() - self._asked > _LOOK_AGAIN:
            self._asked = time.monotonic()
            seen = status(self._instance)
            fronts = [one for one in seen.fronts if self._bind in {"", one.name, one.address}]
            for worker in seen.workers:
                for address, place in worker.slots:
                    if fronts and address == fronts[0].address:
                        self._known[place] = f"worker {worker.generation}.{worker.id}"
        return self._known.get(slot, f"slot {slot}")


def _decision(one: Any, names: _Names, reader: Any, behind: float) -> dict[str, Any]:
    came = reader.slot_of(one.cookie) if one.kind else None
    return {
        "time": round(one.when + behind, 6),
        "kind": _KINDS[int(one.kind)],
        "from": names.of(came) if came is not None else None,
        "to": names.of(one.slot) if one.passed else None,
        "client": one.client,
        "missed": one.missed,
    }


def _carried(record: dict[str, Any], behind: float) -> dict[str, Any]:
    return {
        "time": round(record["when"] + behind, 6),
        "kind": record["fate"],
        "from": record["from"],
        "to": None,
        "client": record["carried"],
        "unread": record["unread"],
    }


def _line_of_carried(record: dict[str, Any]) -> str:
    unread = f", with an unread request ({record['unread']} bytes)" if record["unread"] else ""
    head = f"{_clock(record)} {record['kind']:<8} {record['client']:<22}"
    return f"{head} from {record['from']}{unread}"


def _clock(shown: dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(shown["time"]))
    return f"{clock}.{int(shown['time'] % 1 * 1000):03}"


def _line(decision: dict[str, Any]) -> str:
    came = f"from {decision['from']} " if decision["from"] else ""
    went = f"to {decision['to']}" if decision["to"] else "refused"
    missed = ", not the listener that the policy chose first" if decision["missed"] else ""
    head = f"{_clock(decision)} {decision['kind']:<8} {decision['client']:<22}"
    return f"{head} {came}{went}{missed}"
