"""A policy in the kernel: its maps made and filled, its program loaded over them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from segue.bpf.insn import Instruction
from segue.errors import NotSupported, VerifierError
from segue.linux import features
from segue.linux.bpf import Program
from segue.linux.bpf_attr import AttachType, MapType
from segue.linux.bpf_maps import Map, possible_cpus
from segue.linux.closing import Closing
from segue.linux.ringbuf import plausible_size
from segue.policy import common, maps
from segue.policy.compile import Compiled, compile_policy
from segue.policy.library import shares
from segue.policy.maps import Kind

_KINDS = {
    Kind.HASH: MapType.HASH,
    Kind.ARRAY: MapType.ARRAY,
    Kind.PERCPU_ARRAY: MapType.PERCPU_ARRAY,
    Kind.SOCKETS: MapType.REUSEPORT_SOCKARRAY,
    Kind.RING: MapType.RINGBUF,
}
_LONGEST_NAME = 15  # of what the kernel lists


@dataclass(frozen=True, slots=True)
class Loaded(Closing):
    """A program that the verifier took, and its maps by name; whoever is given it owns them.

    Among the maps are the group's own (``policy.common``), laid out as ``policy.builtin`` says;
    a policy may have more.
    """

    program: Program
    maps: Mapping[str, Map]

    def close(self) -> None:
        """Let go of all of it; what is attached stays attached."""
        for one in (self.program, *self.maps.values()):
            one.close()


def load(compiled: Compiled | None = None, *, migrates: bool = True) -> Loaded:
    """This policy, or the one by shares, over new maps.

    A map of the policy begins with what it holds as plain Python.  Unless it ``migrates`` the
    kernel asks it about new connections alone (BPF_SK_REUSEPORT_SELECT).
    Raises KernelError (EPERM without CAP_BPF), VerifierError, NotSupported before Linux 5.14 if it
    migrates.
    """
    if compiled is None:
        compiled = compile_policy(shares)
    with ExitStack() as undo:
        made: dict[str, Map] = {}
        for one in dict.fromkeys((*common.OWN, *compiled.maps)):
            made[one.name] = undo.enter_context(create(one))
            # What the group's own hold in plain Python is a trial's, not this group's.
            if one not in common.OWN and isinstance(one, maps.Map):
                fill(made[one.name], one)
        program = load_over(compiled, made, migrates=migrates)
        undo.pop_all()
    return Loaded(program, made)


def load_over(compiled: Compiled, made: Mapping[str, Map], *, migrates: bool = True) -> Program:
    """The policy's program over maps that are there.  Raises as ``load``."""
    numbers = {name: one.fileno() for name, one in made.items()}
    return load_program(
        compiled.instructions(numbers),
        name=compiled.policy.__name__[:_LONGEST_NAME],
        attach_type=AttachType.SELECT_OR_MIGRATE if migrates else AttachType.SELECT,
        maps={number: name for name, number in numbers.items()},
    )


def load_program(
    code: Sequence[Instruction],
    *,
    name: str,
    maps: Mapping[int, str],
    attach_type: AttachType = AttachType.SELECT_OR_MIGRATE,
    license_text: str = "Apache-2.0",
) -> Program:
    """As ``Program.load``; where no program is asked about migration, the kernel is to blame, not
    this one: NotSupported.
    """
    try:
        return Program.load(
            code, name=name, attach_type=attach_type, license_text=license_text, maps=maps
        )
    except VerifierError as error:
        asked = features.ask("ebpf_reuseport")
        if attach_type is AttachType.SELECT_OR_MIGRATE and asked.answer is features.Answer.NO:
            needs = "Linux 5.14 or later, which asks a program about migration"
            raise NotSupported("the engine migrate", needs, error.summary) from error
        raise


def create(declared: maps.Map | maps.Ring) -> Map:
    """The kernel's map as it was declared, empty.  Raises KernelError."""
    name = declared.name[:_LONGEST_NAME]
    kind = _KINDS[declared.kind]
    if isinstance(declared, maps.Ring):
        size = plausible_size(declared.size)
        return Map.create(kind, key_size=0, value_size=0, entries=size, name=name)
    return Map.create(
        kind,
        key_size=declared.key_bytes,
        value_size=declared.value_bytes,
        entries=declared.size,
        name=name,
    )


def fill(made: Map, declared: maps.Map) -> None:
    """Put in what the policy's map holds as plain Python.  Raises KernelError."""
    for key, data in declared.contents.items():
        place = key.to_bytes(declared.key_bytes, sys.byteorder)
        if made.kind.per_cpu:
            # What was there before any processor counted is the first one's.
            rest = [bytes(len(data))] * (possible_cpus() - 1)
            made.update_percpu(place, [bytes(data), *rest])
        else:
            made.update(place, bytes(data))
