"""What an expression of a policy is while it is compiled: its kind, and the bounds of a number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from segue.policy import ir
from segue.policy.integers import Fixed, i64, u32, u64
from segue.policy.maps import Field, Map

FIXED: dict[str, type[Fixed]] = {"u32": u32, "u64": u64, "i64": i64}
YES_NO = {"bool", "selection"}


@dataclass(frozen=True, slots=True)
class Num:
    """A number, or yes and no; from ``low`` to ``high``.

    Its kind is u32, u64 or i64, or int: exact, as in Python, so its bounds are always inside 64
    bits; or bool, selection or verdict, which are 0 and 1.
    """

    kind: str
    operand: ir.Operand
    low: int
    high: int

    @classmethod
    def constant(cls, kind: str, value: int) -> Num:
        """A number known now."""
        return cls(kind, value, value, value)

    @property
    def numeric(self) -> bool:
        """It can be calculated with."""
        return self.kind == "int" or self.kind in FIXED


class Thing(Enum):
    """What has a name and no number."""

    CONN = auto()
    GROUP = auto()
    TABLE = auto()
    METADATA = auto()  # the raw context, in segue.policy.connection


@dataclass(frozen=True, slots=True, eq=False)
class Maybe:
    """Something, or None when ``present`` is 0; to be tested before it is used."""

    present: ir.Var
    value: Num | RecordAt | SocketAt
    text: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """None; ``of`` is what was tested to be it."""

    of: Maybe | None = None


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A value that was tested not to be None."""

    of: Maybe


@dataclass(frozen=True, slots=True)
class RecordAt:
    """An element of a map."""

    pointer: ir.Var
    map: Map


@dataclass(frozen=True, slots=True)
class ElementsAt:
    """An array in an element of a map."""

    record: RecordAt
    field: Field


@dataclass(frozen=True, slots=True)
class SocketAt:
    """The socket that migrates (struct bpf_sock)."""

    pointer: ir.Var


@dataclass(frozen=True, slots=True)
class SlotAt:
    """A slot of the group."""

    number: Num


@dataclass(frozen=True, slots=True)
class Method:
    """``value.name``, about to be called."""

    of: Value
    name: str


@dataclass(frozen=True, slots=True)
class Python:
    """A Python object from outside the function: a map, a function, a type."""

    object: object


@dataclass(frozen=True, slots=True)
class Words:
    """A tuple of numbers."""

    items: tuple[Num, ...]


@dataclass(frozen=True, slots=True)
class Unclear:
    """A local that cannot be used here, and why."""

    why: str
    instead: str


Value = (
    Num
    | Thing
    | Maybe
    | Nothing
    | Narrowed
    | RecordAt
    | ElementsAt
    | SocketAt
    | SlotAt
    | Method
    | Python
    | Words
    | Unclear
)
