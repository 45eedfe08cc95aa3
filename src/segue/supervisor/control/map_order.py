"""The request that shows and changes a policy's maps, for ``run`` and ``attach``."""

from __future__ import annotations

from collections.abc import Mapping

from segue.engine import configuring
from segue.engine.steering import Steering
from segue.errors import UsageError
from segue.supervisor.control.requests import Map, shown
from segue.supervisor.control.server import Client


def answer(client: Client, request: Map, groups: Mapping[str, Steering]) -> None:
    """Change the map in every group, and show its new content by address.

    Without the name of a map, list the maps.  Raises UsageError for a map that does not exist,
    and as ``engine.configuring``.
    """
    maps = {address: configuring.own_maps(one) for address, one in groups.items()}
    known = sorted({key for one in maps.values() for key in one})
    if not request.map:
        client.end(0, maps=known)
        return
    if request.map not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UsageError(f"the policy has no map {shown(request.map)}; {has}")
    if request.set or request.delete:
        for one in maps.values():
            configuring.change(one[request.map], request.set or {}, list(request.delete))
    contents = {at: configuring.contents(one[request.map]) for at, one in maps.items()}
    client.end(0, contents=contents)
