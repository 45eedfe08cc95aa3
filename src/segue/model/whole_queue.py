"""The series' way to move an accept queue: all of it at once, to one listener.

Stands for inet_csk_reqsk_queue_migrate of patches 3/8 and 4/8.  Nothing is done for each child but
what only the model needs: a child here knows its listener.
"""

from __future__ import annotations

from segue.model.events import Acceptable, Choice, Misstep, Moved, Occasion
from segue.model.listener import Listener
from segue.model.net import Net
from segue.model.profile import Difference, PostedError


def move(net: Net, source: Listener, target: Listener, choice: Choice) -> None:
    """``target`` has the children from now on, before its own; no limit is looked at.

    Their requests still refer to ``source``, which so stays in the closed section, until each child
    is accepted.
    """
    for child in source.queue:
        child.listener = target
        if child.request is None and child.held is None:
            child.held = source
            source.references += 1
        net.events.append(
            Moved(child.cookie, child.state, source.cookie, target.cookie, Occasion.STOP, choice)
        )
    woken = bool(source.queue) and Difference.TARGET_IS_WOKEN in net.profile
    target.queue.extendleft(reversed(source.queue))
    source.queue.clear()
    if woken:
        net.events.append(Acceptable(target.cookie))
    # The count goes as a whole, also for children that the old listener's program has accepted.
    # When their handshake is over they are subtracted where their request refers to.
    old, new = source.fast_open, target.fast_open
    children = old.used - len(old.penalties)
    old.used -= children
    new.used += children


def move_penalties(net: Net, source: Listener, target: Listener) -> None:
    """What was reset during its handshake is held against ``target``, before what is already."""
    old, new = source.fast_open, target.fast_open
    if not old.penalties:
        return
    if not new.penalties:
        net.events.append(Misstep(PostedError.PENALTIES_WITHOUT_TAIL))
    new.used += len(old.penalties)
    old.used -= len(old.penalties)
    new.penalties.extendleft(reversed(old.penalties))
    old.penalties.clear()
