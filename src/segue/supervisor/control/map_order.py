"""The order that shows and changes a policy's maps, the same for ``run`` and ``attach``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segue.engine import configuring
from segue.engine.steering import Steering
from segue.errors import UsageError
from segue.supervisor.control.server import Asker, short, whole_number


def answer(asker: Asker, request: dict[str, Any], groups: Mapping[str, Steering]) -> None:
    """Change the map in every group, by address, and show what each holds now.

    Without a map's name, show which there are.  Raises UsageError for a map or a number that is
    none, and as ``engine.configuring``.
    """
    maps = {address: configuring.own_maps(one) for address, one in groups.items()}
    name = request.get("map", "")
    known = sorted({key for one in maps.values() for key in one})
    if not name:
        asker.end(0, maps=known)
        return
    if name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UsageError(f"the policy has no map {short(name)}; {has}")
    numbers = _numbers(request.get("set", {}))
    gone = request.get("delete", [])
    if not isinstance(gone, list):
        raise UsageError("keys to delete are a list: [7]")
    without = [whole_number(key) for key in gone]
    if numbers or without:
        for one in maps.values():
            configuring.change(one[name], numbers, without)
    asker.end(0, contents={at: configuring.contents(one[name]) for at, one in maps.items()})


def _numbers(given: object) -> dict[int, int]:
    if not isinstance(given, dict):
        raise UsageError('numbers are given by key: {"7": 1}')
    return {whole_number(key): whole_number(value) for key, value in given.items()}
