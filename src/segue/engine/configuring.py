"""A running policy's own maps: shown, and changed while the program stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping

from segue.engine.steering import Exchangeable, Steering
from segue.errors import KernelError, NotSupported, UsageError
from segue.linux.bpf_maps import Map
from segue.policy import common

_WIDEST = 8  # of a number


def own_maps(steering: Steering) -> dict[str, Map]:
    """The maps that its policy declared, by name.  Raises NotSupported without a program."""
    if not isinstance(steering, Exchangeable):
        raise NotSupported("a policy's maps", "the engine migrate", f"the engine {steering.name}")
    ours = {one.name for one in common.OWN}
    return {name: one for name, one in steering.maps.items() if name not in ours}


def contents(made: Map) -> dict[int, int]:
    """Key -> number; of a map with a value for each CPU their sum.

    Raises UsageError when it holds records, KernelError.
    """
    _refuse_records(made)
    found: dict[int, int] = {}
    for key in list(made.keys()):
        if made.kind.per_cpu:
            values = made.lookup_percpu(key) or []
        else:
            values = [one] if (one := made.lookup(key)) is not None else []
        number = sum(int.from_bytes(one, sys.byteorder) for one in values)
        # An array has all its keys, nearly all of them at nothing.
        if number or not made.kind.name.endswith("ARRAY"):
            found[int.from_bytes(key, sys.byteorder)] = number
    return found


def change(made: Map, numbers: Mapping[int, int], without: Collection[int]) -> None:
    """Put these in, and take those keys out; one that is not there is no error.

    Raises UsageError, with nothing changed, for a key or a number that does not fit; KernelError
    when the map is full or has no such key.
    """
    _refuse_records(made)
    if made.kind.per_cpu:
        raise UsageError("a map with a value for each CPU is for counting: it is only shown")
    put = {
        _bytes(key, made.key_size, "key"): _bytes(number, made.value_size, "number")
        for key, number in numbers.items()
    }
    gone = [_bytes(key, made.key_size, "key") for key in without]
    for place, value in put.items():
        made.update(place, value)
    for place in gone:
        try:
            made.delete(place)
        except KernelError as error:
            raise UsageError("the keys of an array stay: set one to 0") from error


def _refuse_records(made: Map) -> None:
    if made.value_size > _WIDEST or made.value_size not in {1, 2, 4, 8}:
        raise UsageError(
            f"this map holds records of {made.value_size} bytes: set them in the policy's file, and"
            " segue reexec"
        )


def _bytes(number: int, octets: int, what: str) -> bytes:
    if not 0 <= number < 1 << 8 * octets:
        raise UsageError(
            f"a {what} of this map must be between 0 and {(1 << 8 * octets) - 1} (got {number})"
        )
    return number.to_bytes(octets, sys.byteorder)
