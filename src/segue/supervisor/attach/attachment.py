"""What one attach owns, as a record: the parts of the follower get this, and never the follower."""

from __future__ import annotations

from dataclasses import dataclass

from segue.engine.attached import Attached
from segue.engine.membership import MembershipWatch
from segue.engine.pinning import Pins
from segue.engine.select import EngineChoice
from segue.observe.snapshot import Observer
from segue.supervisor.attach.settings import AttachSettings
from segue.supervisor.control.log import Log
from segue.supervisor.control.paths import Paths
from segue.supervisor.control.server import Client
from segue.supervisor.control.tracing import Tracing
from segue.supervisor.front import Front
from segue.supervisor.loop import Loop
from segue.supervisor.rescue.rescue import Rescue
from segue.supervisor.workers.carrying import Carrying


@dataclass(slots=True)
class Attachment:
    """One group, how it is followed, and by what; whoever made a part closes it.

    What is worth saying goes through ``loop.say``.
    """

    settings: AttachSettings
    paths: Paths
    pins: Pins
    choice: EngineChoice
    observer: Observer
    attached: Attached
    front: Front
    loop: Loop
    log: Log
    tracing: Tracing
    membership: MembershipWatch
    rescue: Rescue | None = None  # while its listeners are looked after
    carrying: Carrying | None = None  # if kept connections are to be carried
    client: Client | None = None  # who asked for that, if it was not the settings
    over: bool = False  # the loop is to be left
    exit_code: int = 0
