"""A policy to eBPF, without a system call: what to load, over which maps, and how long it can take.

Statements and expressions become blocks (``statements``), variables get registers
(``allocate``), blocks become instructions (``emit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segue.bpf import insn
from segue.bpf.asm import FARTHEST
from segue.bpf.insn import Instruction, Jump
from segue.errors import UsageError
from segue.policy import common, ir
from segue.policy.emit import Emitter
from segue.policy.maps import Map, Ring
from segue.policy.plain import Policy
from segue.policy.statements import Statements

# What a jump reaches; the verifier's own limit, a million over all paths, comes later.
MOST_INSTRUCTIONS = FARTHEST


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy's program as a specification: the maps to make, and the program over them."""

    policy: Policy
    maps: tuple[Map | Ring, ...]
    listing: tuple[tuple[int, Instruction], ...]
    """Each instruction with the line of the policy it is for, 0 for the counting.

    A map is named by its number in ``maps``.
    """
    traced: bool = False

    def instructions(self, descriptors: Mapping[str, int]) -> list[Instruction]:
        """The program over the maps with these descriptors, by name."""
        return [
            replace(one, imm=descriptors[self.maps[one.imm].name]) if one.names_map else one
            for _, one in self.listing
        ]

    @property
    def worst_case(self) -> int:
        """The most instructions one run executes."""
        return longest_path([one for _, one in self.listing])


def compile_policy(policy: Policy, *, traced: bool = False) -> Compiled:
    """With ``traced``, every decision that is counted is written into a ring (``common.events``).

    Raises PolicyError, with the place and what to write instead; UsageError when too long.
    """
    writer = Statements()
    entry = ir.thread(writer.program(policy, traced=traced))
    ours = {one.name: one for one in (*common.OWN, common.events, common.lost)}
    for one in writer.maps.values():
        if one.name == "program" or ours.get(one.name, one) is not one:
            raise UsageError(
                f"the map {one.name} has a name that Segue uses itself: choose another"
            )
    maps = tuple(writer.maps.values())
    emitter = Emitter(entry, {one.name: number for number, one in enumerate(maps)})
    program = emitter.run()
    length = sum(one.slots for one in program)
    if length > MOST_INSTRUCTIONS:
        raise UsageError(
            f"{policy.__name__} has {length} instructions, more than {MOST_INSTRUCTIONS}:"
            f" give its loops fewer rounds"
        )
    return Compiled(policy, maps, tuple(zip(emitter.lines, program, strict=True)), traced)


def longest_path(program: list[Instruction]) -> int:
    """The most instructions from the first to an exit, of a program that jumps forward only."""
    places: list[int] = []
    slot = 0
    for one in program:
        places.append(slot)
        slot += one.slots
    at = {place: number for number, place in enumerate(places)}
    longest = [0] * (len(program) + 1)
    for number in range(len(program) - 1, -1, -1):
        one, after = program[number], [number + 1]
        op = one.opcode & insn.OP_MASK
        if one.family in {insn.JMP, insn.JMP32} and op not in {Jump.CALL, Jump.EXIT}:
            target = at[places[number] + 1 + one.off]
            after = [target] if op == Jump.ALWAYS else [number + 1, target]
        elif one.family == insn.JMP and op == Jump.EXIT:
            after = [len(program)]
        longest[number] = 1 + max(longest[other] for other in after)
    return longest[0]
