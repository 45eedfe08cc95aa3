"""A compiled object as a policy: which of its maps are Segue's to fill, and what comes before it.

An object needs one map that Segue fills, a REUSEPORT_SOCKARRAY; the rest is its own.  There are two
ways to have a say in shares:

- by array, the ordinary one: the array holds the listeners that have a share and no other, without
  a gap, from 0 on.  How many they are is written into the variable ``segue_live``, if there is one.
- by table: an object that has the maps ``tables`` and ``control`` of the built-in program reads
  shares as that one does.  Slots are then Segue's, and listeners without a share are in the array.
  ``pins`` and ``counters`` are Segue's too if it has them.

A program in the section ``sk_reuseport`` was written for new connections only.  It is asked about
those that migrate as well, and selects for them as for new ones: else what waits would be lost.

Neither reaches one listener in particular, as asking for its readiness must.  So, for an object
without ``pins``, Segue's own look at them stands before its first instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segue.bpf import asm
from segue.bpf.insn import FP, R0, R1, R2, R3, R4, R6, R9, Alu, Helper, Instruction, Jump
from segue.bpf.insn import Size as Width
from segue.bpf.linker import MapSpec, Object, Variable
from segue.errors import UsageError
from segue.linux.bpf_attr import MapType
from segue.policy import builtin
from segue.policy.language import Verdict

LIVE = "segue_live"
_LIVE_BYTES = 4

# Of keys and values in all maps.  A hash has all of its memory from the start, and the kernel finds
# it by ending other processes.
MOST_BYTES = 1 << 30

# A pin to a listener that waits without a share: its place there is what is above this.
WAITING = 1 << 16

# Kind, key, value and entries of what Segue fills and reads, by name.
_OURS = {
    "tables": (MapType.ARRAY, builtin.KEY_BYTES, builtin.TABLE_BYTES, 2),
    "control": (MapType.ARRAY, builtin.KEY_BYTES, builtin.CONTROL_BYTES, 1),
    "pins": (MapType.HASH, builtin.KEY_BYTES, builtin.PIN_BYTES, builtin.PINS),
    "counters": (
        MapType.PERCPU_ARRAY,
        builtin.KEY_BYTES,
        builtin.COUNTER_BYTES,
        builtin.SLOTS + 1,
    ),
}
# struct sk_reuseport_md (include/uapi/linux/bpf.h).
_DATA, _DATA_END, _MIGRATING_SK = 0, 8, 48
_KEY = -4  # below the frame pointer
_NEEDED_FOR_TABLE = ("tables", "control")


@dataclass(frozen=True, slots=True)
class ObjectPolicy:
    """An object whose maps have been told apart.

    ``ours`` are the places in ``object.maps`` of those that Segue fills, by Segue's name:
    ``sockets`` always, the others only when it is steered by table.
    """

    object: Object
    maps: tuple[MapSpec, ...]  # as they are to be made
    ours: dict[str, int]
    live: Variable | None

    @property
    def by_table(self) -> bool:
        """Shares are read from Segue's table."""
        return "tables" in self.ours


def match(found: Object) -> ObjectPolicy:
    """Tell apart whose maps are whose.

    Raises UsageError when there is no array to fill, when it cannot be told which one, when a map
    that Segue fills has another layout than Segue's, for a kind of map that Segue cannot make, and
    for maps that take too much memory.
    """
    for spec in found.maps:
        _refuse_kind(spec)
    _refuse_size(found.maps)
    sockets = _array(found)
    by_name = {spec.name: number for number, spec in enumerate(found.maps)}
    has = [name for name in _NEEDED_FOR_TABLE if name in by_name]
    if has and len(has) < len(_NEEDED_FOR_TABLE):
        missing = next(name for name in _NEEDED_FOR_TABLE if name not in has)
        raise UsageError(
            f"it has the map {has[0]!r} and not {missing!r}: shares need both; give yours another"
            " name if it is not meant to be Segue's"
        )
    ours = {"sockets": sockets}
    if has:
        ours |= {name: by_name[name] for name in _OURS if name in by_name}
        for name in ours.keys() & _OURS.keys():
            _refuse_layout(found.maps[ours[name]], name)
    live = found.variable(LIVE)
    if live is not None and live.size != _LIVE_BYTES:
        raise UsageError(
            f"its variable {LIVE} must have {_LIVE_BYTES} bytes, a __u32 (it has {live.size})"
        )
    maps = list(found.maps)
    maps[sockets] = _enlarged(maps[sockets])
    return ObjectPolicy(found, tuple(maps), ours, live)


def _array(found: Object) -> int:
    arrays = [
        number for number, spec in enumerate(found.maps) if spec.kind == MapType.REUSEPORT_SOCKARRAY
    ]
    if not arrays:
        raise UsageError(
            "it has no map of the kind REUSEPORT_SOCKARRAY: without one it cannot select a listener"
        )
    named = [number for number in arrays if found.maps[number].name == "sockets"]
    if len(arrays) > 1 and not named:
        listed = ", ".join(found.maps[number].name for number in arrays)
        raise UsageError(
            f"it has {len(arrays)} maps of the kind REUSEPORT_SOCKARRAY ({listed}): a listener can"
            " be in one only, so call the one that Segue shall fill 'sockets'"
        )
    chosen = (named or arrays)[0]
    spec = found.maps[chosen]
    if spec.key_size != builtin.KEY_BYTES or spec.value_size not in {4, 8} or not spec.entries:
        raise UsageError(
            f"its array {spec.name} has keys of {spec.key_size} and values of {spec.value_size}"
            f" bytes and {spec.entries} entries; keys have 4 bytes, values 8, and there is at least"
            " one entry"
        )
    return chosen


def _enlarged(sockets: MapSpec) -> MapSpec:
    """The array as it is made: the program sees no difference."""
    return replace(
        sockets,
        # With values of 4 bytes the kernel does not say which listener is where.
        value_size=builtin.SOCKET_BYTES,
        # So that scaling up never finds the array full.
        entries=max(sockets.entries, builtin.SLOTS),
    )


def _refuse_kind(spec: MapSpec) -> None:
    if spec.kind not in set(MapType):
        known = ", ".join(kind.name for kind in MapType)
        raise UsageError(
            f"its map {spec.name} is of kind {spec.kind} (enum bpf_map_type), which Segue cannot"
            f" make; it makes {known}"
        )


def _refuse_size(maps: Sequence[MapSpec]) -> None:
    # A ring buffer has so many bytes; the kernel's own bytes of each entry are not counted.
    total = sum(one.entries * max(one.key_size + one.value_size, 1) for one in maps)
    if total > MOST_BYTES:
        raise UsageError(
            f"its maps have room for {total} bytes, above {MOST_BYTES}: give them fewer entries"
            " (max_entries)"
        )


def _refuse_layout(spec: MapSpec, name: str) -> None:
    kind, key, value, entries = _OURS[name]
    if (spec.kind, spec.key_size, spec.value_size, spec.entries) != (kind, key, value, entries):
        has = MapType(spec.kind).name
        raise UsageError(
            f"its map {name!r} is of kind {has} with {spec.entries} entries, keys of"
            f" {spec.key_size} and values of {spec.value_size} bytes; Segue's is of kind"
            f" {kind.name} with {entries}, {key} and {value}: give yours another name if it is not"
            " meant to be Segue's"
        )


def program(
    policy: ObjectPolicy, descriptors: Sequence[int], pins: int, waiting: int | None
) -> list[Instruction]:
    """What is loaded: the object's program, behind Segue's look at the pins if it has none itself.

    ``descriptors`` are those of ``policy.maps``, ``pins`` and ``waiting`` those of Segue's maps of
    pinned ports and of listeners without a share.
    """
    linked = policy.object.linked(descriptors)
    if "pins" in policy.ours:
        return linked
    sockets = descriptors[policy.ours["sockets"]]
    # Calls are by distance and all stand behind this, so they still reach what they call.
    return asm.assemble([*_pinned(pins, sockets, waiting), *linked])


def _pinned(pins: int, sockets: int, waiting: int | None) -> list[asm.Item]:
    """Leave with the pinned listener selected, or go on with the context in R1 as at entry."""
    done: list[asm.Item] = [
        asm.jump_imm(Jump.NE, R0, 0, "object"),
        asm.mov_imm(R0, Verdict.PASS),
        asm.leave(),
    ]
    aside: list[asm.Item] = []
    if waiting is not None:
        aside = [
            asm.jump_imm(Jump.LT, R9, WAITING, "shared"),
            asm.alu_imm(Alu.SUB, R9, WAITING),
            *_select(waiting),
            *done,
            asm.Label("shared"),
        ]
    return [
        asm.mov_reg(R6, R1),
        *_pin_of(pins, "object"),
        *aside,
        *_select(sockets),
        *done,
        asm.Label("object"),
        asm.mov_reg(R1, R6),
    ]


def _pin_of(pins: int, none: str) -> list[asm.Item]:
    """R9 = what the SYN's source port is pinned to; on to a label when it is not.

    The context is in R6; R1 to R5 and the key on the stack are lost.
    """
    return [
        # A pin is for a SYN.  What migrates has been let in, and a pin to the listener that
        # leaves would only cost it a failed choice.
        asm.load(Width.U64, R1, R6, _MIGRATING_SK),
        asm.jump_imm(Jump.NE, R1, 0, none),
        # The data begins at the TCP header, whatever the IP version: first the source port.
        asm.load(Width.U64, R1, R6, _DATA),
        asm.load(Width.U64, R2, R6, _DATA_END),
        asm.mov_reg(R3, R1),
        asm.alu_imm(Alu.ADD, R3, 2),
        asm.jump_reg(Jump.GT, R3, R2, none),
        asm.load(Width.U16, R1, R1, 0),
        asm.network_order(R1, 16),
        asm.store_reg(Width.U32, FP, _KEY, R1),
        *_lookup(pins),
        asm.jump_imm(Jump.EQ, R0, 0, none),
        asm.load(Width.U32, R9, R0, 0),
    ]


def _select(sockets: int) -> list[asm.Item]:
    """R0 = 0 when the listener in slot R9 of the array is in this group, and so selected.

    The context is in R6; R1 to R5 and the key on the stack are lost.
    """
    return [
        asm.store_reg(Width.U32, FP, _KEY, R9),
        asm.mov_reg(R1, R6),
        asm.load_map(R2, sockets),
        asm.mov_reg(R3, FP),
        asm.alu_imm(Alu.ADD, R3, _KEY),
        asm.mov_imm(R4, 0),
        asm.call(Helper.SK_SELECT_REUSEPORT),
    ]


def _lookup(map_descriptor: int) -> list[asm.Item]:
    """R0 = the address of the element whose key is on the stack, or 0."""
    return [
        asm.load_map(R1, map_descriptor),
        asm.mov_reg(R2, FP),
        asm.alu_imm(Alu.ADD, R2, _KEY),
        asm.call(Helper.MAP_LOOKUP_ELEM),
    ]
