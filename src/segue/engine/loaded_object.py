"""An object's maps and program in the kernel."""

from __future__ import annotations

import sys

from segue.engine.loaded import Loaded, load_program
from segue.linux.bpf import Descriptor, Program
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from segue.linux.bpf_variables import Variables
from segue.policy import builtin
from segue.policy import object as objects
from segue.policy.object import ObjectPolicy

_LONGEST_NAME = 15  # of what the kernel lists


class LoadedObject:
    """Owns every map of a policy and its program, from construction to ``close``.

    Segue's own maps beside the object's are the pins, when the object has none, and, for an object
    that is steered by array, the listeners that wait without a share.
    """

    def __init__(self, policy: ObjectPolicy) -> None:
        """Raises KernelError (EPERM without CAP_BPF), VerifierError."""
        self.policy = policy
        self._owned: list[Descriptor] = []
        try:
            self.maps = self._make()
            own = {name: self.maps[number] for name, number in policy.ours.items()}
            self.sockets = own["sockets"]
            self.pins = own.get("pins") or self._create(
                "segue_pins", MapType.HASH, builtin.PIN_BYTES, builtin.PINS
            )
            self.waiting = (
                None
                if policy.by_table
                else self._create(
                    "segue_waiting",
                    MapType.REUSEPORT_SOCKARRAY,
                    builtin.SOCKET_BYTES,
                    builtin.SLOTS,
                )
            )
            self.program = self._load()
        except BaseException:
            self.close()
            raise

    def _make(self) -> list[Map]:
        made: list[Map] = []
        for spec in self.policy.maps:
            name = spec.name[:_LONGEST_NAME]
            one: Map
            if spec.content is not None:
                one = Variables.begin(spec.content, name=name, constant=spec.constant)
            else:
                one = Map.create(
                    MapType(spec.kind),
                    key_size=spec.key_size,
                    value_size=spec.value_size,
                    entries=spec.entries,
                    flags=spec.flags,
                    name=name,
                )
            made.append(one)
            self._owned.append(one)
        return made

    def _create(self, name: str, kind: MapType, value_size: int, entries: int) -> Map:
        made = Map.create(kind, value_size=value_size, entries=entries, name=name)
        self._owned.append(made)
        return made

    def _load(self) -> Program:
        descriptors = [one.fileno() for one in self.maps]
        waiting = None if self.waiting is None else self.waiting.fileno()
        code = objects.program(self.policy, descriptors, self.pins.fileno(), waiting)
        names = {
            one.fileno(): spec.name for one, spec in zip(self.maps, self.policy.maps, strict=True)
        }
        names[self.pins.fileno()] = "segue_pins"
        if waiting is not None:
            names[waiting] = "segue_waiting"
        program = load_program(
            code,
            name=self.policy.object.name[:_LONGEST_NAME],
            license_text=self.policy.object.license_text,
            maps=names,
        )
        self._owned.append(program)
        return program

    def by_table(self) -> Loaded:
        """What a steering by the table needs of it."""
        ours = {name: self.maps[number] for name, number in self.policy.ours.items()}
        return Loaded(self.program, ours | {"pins": self.pins})

    def variables(self) -> dict[str, int]:
        """Variables of 1, 2, 4 or 8 bytes that can be written, by name, as unsigned numbers."""
        found: dict[str, int] = {}
        for one in self.policy.object.variables:
            home = self.maps[one.map]
            spec = self.policy.maps[one.map]
            if isinstance(home, Variables) and not spec.constant and one.size in {1, 2, 4, 8}:
                found[one.name] = int.from_bytes(home.read(one.offset, one.size), sys.byteorder)
        return found

    def set_live(self, count: int) -> None:
        """Write how many listeners the array holds into ``segue_live``, if there is one."""
        live = self.policy.live
        if live is not None:
            home = self.maps[live.map]
            assert isinstance(home, Variables)
            home.write(live.offset, count.to_bytes(live.size, sys.byteorder))

    def close(self) -> None:
        """Close all; twice is no error."""
        for one in self._owned:
            one.close()
