"""A compiled policy in the kernel: its maps made and filled, its program loaded over them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from segue.linux.bpf import Program
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map, possible_cpus
from segue.linux.ringbuf import plausible_size
from segue.policy import maps
from segue.policy.compile import Compiled
from segue.policy.maps import Kind

_KINDS = {
    Kind.HASH: MapType.HASH,
    Kind.ARRAY: MapType.ARRAY,
    Kind.PERCPU_ARRAY: MapType.PERCPU_ARRAY,
    Kind.SOCKETS: MapType.REUSEPORT_SOCKARRAY,
    Kind.RING: MapType.RINGBUF,
}


@dataclass(slots=True)
class Loaded:
    """A program and the maps made for it; it owns both."""

    program: Program
    maps: dict[str, Map] = field(default_factory=dict)

    @classmethod
    def load(cls, compiled: Compiled, shared: Mapping[str, Map]) -> Loaded:
        """Over the ``shared`` maps, which stay their owner's, and new ones for all other names.

        A new map begins with what the policy's own holds as plain Python.  Raises KernelError:
        EPERM without CAP_BPF; VerifierError.
        """
        with ExitStack() as stack:
            made = {
                one.name: stack.enter_context(create(one))
                for one in compiled.maps
                if one.name not in shared
            }
            numbers = {name: one.fileno() for name, one in {**shared, **made}.items()}
            program = stack.enter_context(
                Program.load(
                    compiled.instructions(numbers),
                    name=compiled.policy.__name__[:15],
                    maps={number: name for name, number in numbers.items()},
                )
            )
            stack.pop_all()
        return cls(program, made)

    def close(self) -> None:
        """Let go of all of it; what is attached stays attached."""
        self.program.close()
        for one in self.maps.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def create(declared: maps.Map | maps.Ring) -> Map:
    """The kernel's map as it was declared, with what it holds as plain Python."""
    if isinstance(declared, maps.Ring):
        size = plausible_size(declared.size)
        kind = _KINDS[declared.kind]
        return Map.create(kind, key_size=0, value_size=0, entries=size, name=declared.name)
    made = Map.create(
        _KINDS[declared.kind],
        key_size=declared.key_bytes,
        value_size=declared.value_bytes,
        entries=declared.size,
        name=declared.name,
    )
    try:
        for key, data in declared.contents.items():
            place = key.to_bytes(declared.key_bytes, sys.byteorder)
            if made.kind.per_cpu:
                # What was there before any processor counted is the first one's.
                rest = [bytes(len(data))] * (possible_cpus() - 1)
                made.update_percpu(place, [bytes(data), *rest])
            else:
                made.update(place, bytes(data))
    except BaseException:
        made.close()
        raise
    return made
