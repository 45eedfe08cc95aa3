"""A register or a place on the stack for each variable.

Greedy colouring in the order of definition: a variable that lives over a call wants one of R6 to
R9, which calls keep; R0 and R5 stay free for what is on its way from and to the stack, and R6 is
the context's.  A move's two sides get one register when they can.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from segue.bpf.insn import R1, R2, R3, R4, R7, R8, R9
from segue.policy import ir

_KEPT = (R7, R8, R9)
_LOST = (R1, R2, R3, R4)


@dataclass(frozen=True, slots=True)
class Allocation:
    """Where the variables are, and which operations are worth nothing."""

    registers: dict[ir.Var, int]
    spilled: dict[ir.Var, int]  # offset below the frame pointer
    dead: set[int]  # by id()


def allocate(blocks: list[ir.Block], first_spill: int) -> Allocation:
    """Registers and stack for all variables of these blocks, which are in order.

    Spilled ones are put at ``first_spill`` and every 8 bytes below.
    """
    conflicts: defaultdict[ir.Var, set[ir.Var]] = defaultdict(set)
    over_call: set[ir.Var] = set()
    # In order, and not as sets: a policy is the same program each time.
    friends: defaultdict[ir.Var, list[ir.Var]] = defaultdict(list)
    dead: set[int] = set()
    order: list[ir.Var] = []
    live_at: dict[ir.Block, set[ir.Var]] = {}
    for block in reversed(blocks):
        live: set[ir.Var] = set()
        for after in block.after():
            live |= live_at[after]
        live |= set(ir.reads(block.end))
        for op, _ in reversed(block.ops):
            if not isinstance(op, ir.Store):
                if op.to not in live and not isinstance(op, ir.Call):
                    dead.add(id(op))
                    continue
                live.discard(op.to)
                order.append(op.to)
                source = _source(op)
                if source is not None:
                    friends[op.to].append(source)
                    friends[source].append(op.to)
                beside = live - {source} if isinstance(op, ir.Move) else live
                conflicts[op.to] |= beside
                for other in beside:
                    conflicts[other].add(op.to)
            if isinstance(op, ir.Call):
                over_call |= live
            live |= set(ir.reads(op))
        live_at[block] = live
    registers: dict[ir.Var, int] = {}
    spilled: dict[ir.Var, int] = {}
    for var in reversed(order):
        if var in registers or var in spilled:
            continue
        taken = {registers[other] for other in conflicts[var] if other in registers}
        wanted = [registers[other] for other in friends[var] if other in registers]
        choice = _KEPT if var in over_call else _LOST + _KEPT
        free = [one for one in (*wanted, *choice) if one in choice and one not in taken]
        if free:
            registers[var] = free[0]
        else:
            used = {spilled[other] for other in conflicts[var] if other in spilled}
            place = first_spill
            while place in used:
                place -= 8
            spilled[var] = place
    return Allocation(registers, spilled, dead)


def _source(op: ir.Op) -> ir.Var | None:
    """What becomes the result in place, when both have one register."""
    match op:
        case ir.Move(value=ir.Var() as source) | ir.HostOrder(value=source):
            return source
        case ir.Binary(left=ir.Var() as source):
            return source
        case _:
            return None
