"""``segue metrics``: metrics of an instance for Prometheus."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import click

from segue.cli.shared.instance import instance_options
from segue.cli.shared.telling import tell, tell_lines
from segue.errors import SegueError
from segue.linux import capability
from segue.supervisor.control import client
from segue.supervisor.control.export_target import LIBRARY, ExportTarget, missing_library
from segue.supervisor.control.status import Status

if TYPE_CHECKING:
    from segue.metrics.families import Family

# What the exporter of an instance keeps: root's may write into a directory of another user.
_KEPT = ("dac_override",)


@click.command()
@instance_options
@click.option("--once", is_flag=True, help="Print them once, and exit.")
@click.option("--lifeline", type=int, hidden=True, help="Stop when this descriptor is hung up.")
@click.argument("target", required=False, metavar="[TARGET]")
def metrics(
    name: str, control: str, target: str | None, lifeline: int | None, *, once: bool
) -> int:
    """Export metrics for Prometheus.

    TARGET is where: ADDRESS such as 127.0.0.1:9464 (HTTP, at /metrics), unix:PATH (HTTP by a Unix
    socket), or textfile:PATH (for node_exporter, written every 15 s).  This runs until it is
    stopped, also over restarts of the supervisor.  segue run --metrics TARGET starts it by itself.
    """
    if once == bool(target):
        raise click.UsageError("give either a TARGET or --once")
    try:
        from segue.metrics import families, serving  # noqa: PLC0415  an extra
    except ImportError as error:
        if error.name != LIBRARY:
            raise
        raise missing_library() from None

    troubles: list[str] = []  # the last one that was told

    def look() -> Status | None:
        try:
            found = client.status(client.find(name, control))
        except (SegueError, OSError) as error:
            if troubles != [str(error)]:
                troubles[:] = [str(error)]
                tell(f"segue: {error}", err=True)
            return None
        if troubles:
            troubles.clear()
            tell("segue: the supervisor answers again", err=True)
        return found

    def collect() -> Iterable[Family]:
        return families.families(look(), version("segue"))

    if once:
        from prometheus_client.exposition import generate_latest  # noqa: PLC0415  as above

        tell_lines(generate_latest(serving.registry(collect)).decode())
        return 1 if troubles else 0
    assert target is not None
    exporter = serving.exporter(ExportTarget.parse(target).below(os.getcwd()), collect)
    if lifeline is not None:
        capability.keep_only(capability.bits(_KEPT) & capability.mine().permitted)
        _follow(lifeline)
    signal.signal(signal.SIGTERM, _end)
    if lifeline is None:  # who holds one was told where
        tell(f"segue: metrics are at {exporter.where}", err=True)
    try:
        exporter.serve()
    except KeyboardInterrupt:
        return 130
    finally:
        exporter.close()
    return 0


def _follow(lifeline: int) -> None:
    """End as at SIGTERM when nobody has the other end of the pipe any more."""
    here = os.getpid()

    def wait() -> None:
        os.read(lifeline, 1)
        os.kill(here, signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _end(*_: object) -> NoReturn:
    sys.exit(0)
