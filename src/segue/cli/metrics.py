"""``segue metrics``: metrics of an instance for Prometheus."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import click

from segue.cli.shared.instance import instance_options
from segue.cli.shared.telling import tell, tell_lines
from segue.errors import NotSupported, SegueError
from segue.supervisor.control import client
from segue.supervisor.control.status import Status

if TYPE_CHECKING:
    from segue.metrics.families import Family

_EXTRA = "metrics"


@click.command()
@instance_options
@click.option("--once", is_flag=True, help="Print them once, and exit.")
@click.argument("target", required=False, metavar="[TARGET]")
def metrics(name: str, control: str, target: str | None, *, once: bool) -> int:
    """Export metrics for Prometheus.

    TARGET is where: ADDRESS such as 127.0.0.1:9464 (HTTP, at /metrics), unix:PATH (HTTP by a Unix
    socket), or textfile:PATH (for node_exporter, written every 15 s).  This runs until it is
    stopped, also over restarts of the supervisor.
    """
    if once == bool(target):
        raise click.UsageError("give either a TARGET or --once")
    try:
        from segue.metrics import families, serving  # noqa: PLC0415  an extra
    except ImportError as error:
        if error.name != "prometheus_client":
            raise
        raise NotSupported(
            "exporting metrics", f"the extra {_EXTRA} (pip install 'segue[{_EXTRA}]')", "none"
        ) from None

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
    exporter = serving.exporter(target, collect)
    signal.signal(signal.SIGTERM, _end)
    tell(f"segue: metrics are at {exporter.where}", err=True)
    try:
        exporter.serve()
    except KeyboardInterrupt:
        return 130
    finally:
        exporter.close()
    return 0


def _end(*_: object) -> NoReturn:
    sys.exit(0)
