"""The turn of an order: what a restart waits for, and why another order cannot be done now.

One restart is at work at a time.  The latest of those that are asked for meanwhile waits, as
``Instance.queued``, and begins when the one at work has served or has been given up.
"""

from __future__ import annotations

from segue.supervisor.lifecycle.ending import ENDING
from segue.supervisor.lifecycle.instance import Instance
from segue.supervisor.lifecycle.stages import Phase


def awaited(instance: Instance) -> str:
    """What a restart waits for, as "until ..."; "" if it begins at once.

    A canary is at work until somebody decides about it.
    """
    match instance.phase:
        case Phase.STARTING:
            return f"until generation {instance.working} serves"
        case Phase.RENEWING:
            return f"until generation {instance.newcomer} serves or is given up"
        case Phase.CANARY:
            return (
                f"until generation {instance.newcomer}, a canary, is promoted (segue restart"
                " --replace gives the canary up, segue rollback both)"
            )
        case _:
            return ""


def busy(instance: Instance) -> str:
    """Why the number of workers cannot change now; "" if it can."""
    if instance.phase in ENDING:
        return "the instance stops"
    if instance.phase is Phase.RENEWING and instance.renewal.step:
        return ""  # its steps may take minutes, and each is planned by what is wanted then
    return f"wait {awaited(instance)}" if awaited(instance) else ""


def nothing_before(instance: Instance) -> str:
    """Why there is no generation to go back to, if there is none."""
    working, last = instance.working, instance.last_generation
    if instance.phase in ENDING:
        return "the instance stops"
    if instance.phase is Phase.STARTING:
        return f"generation {working} is the first, and is still starting"
    if working < last:
        return f"generation {last} was given up, and generation {working} serves"
    if working == 1:
        return "generation 1 is the first"
    return (
        f"the workers before generation {working} have been stopped (segue restart --keep"
        " SECONDS keeps them for a while)"
    )
