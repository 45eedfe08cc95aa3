"""``segue detach``: leave a group as ``segue attach`` found it."""

from __future__ import annotations

from typing import Any

import click

from segue.address import Address
from segue.cli.shared.group import group_options
from segue.cli.shared.telling import tell
from segue.errors import SegueError


@click.command()
@group_options
def detach(address: str, **given: Any) -> int:
    """Undo segue attach: remove its program and its pins."""
    from segue.supervisor.attach.settings import AttachSettings  # noqa: PLC0415
    from segue.supervisor.attach.start import detach as release  # noqa: PLC0415
    from segue.supervisor.control.client import ask  # noqa: PLC0415
    from segue.supervisor.control.instances import own  # noqa: PLC0415
    from segue.supervisor.control.requests import Detach  # noqa: PLC0415

    settings = AttachSettings(Address.parse(address), **given)
    name = settings.instance_name
    running = own(name)
    if running is not None:
        answer = ask(running, Detach(str(settings.address)), tell)
        if answer.get("error"):
            raise SegueError(str(answer["error"]))
    elif not release(settings):
        raise SegueError(
            f"segue attach has attached nothing at {settings.address} under the name {name}"
        )
    tell(f"{settings.address} is detached: the kernel distributes its connections again")
    return 0
