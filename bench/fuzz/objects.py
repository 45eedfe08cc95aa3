"""Object files by clang, changed by chance: read or refused.

What is read is loaded into the kernel, whose verifier takes or refuses it.  Nothing is attached to
anything.
"""

from __future__ import annotations

import random
import traceback
from pathlib import Path

from bench.fuzz.found import Found, mutated
from bench.harness import ROOT
from segue.bpf import linker
from segue.bpf.elf import Elf
from segue.engine.loaded_object import LoadedObject
from segue.errors import KernelError, UsageError, VerifierError, WireError
from segue.policy import object as objects
from segue.policy.object import ObjectPolicy

COUNT = 200_000
LOADED = 20_000
GOLDEN = sorted((ROOT / "tests" / "golden" / "objects").glob("*.o"))
# Of one object's maps: the machine's memory is not what is tried here.
_MOST_BYTES = 16 << 20
_MOST_ENTRIES = 1 << 16
_ANYWHERE = 0.25  # of the objects that are loaded: names, maps, relocations and types too


def fuzz(count: int, first: int) -> Found:
    """So many objects of this seed, changed anywhere and read."""
    found, chance = Found(), random.Random(first)
    whole = {path: path.read_bytes() for path in GOLDEN}
    for number in range(count):
        path = chance.choice(GOLDEN)
        what = f"seed {first}, object {number} ({path.name})"
        with found.timed(what):
            if _read(mutated(chance, whole[path]), found, what) is not None:
                found.counts["read"] += 1
    return found


def fuzz_programs(count: int, first: int) -> Found:
    """So many objects of this seed, changed where their programs are, and loaded."""
    found, chance = Found(), random.Random(first)
    whole = {path: path.read_bytes() for path in GOLDEN}
    for number in range(count):
        path = chance.choice(GOLDEN)
        data = whole[path]
        anywhere = chance.random() < _ANYWHERE
        made = mutated(chance, data, 2) if anywhere else _other_code(chance, path, data)
        what = f"seed {first}, program {number} ({path.name})"
        with found.timed(what):
            policy = _read(made, found, what)
            if policy is not None:
                _load(policy, found, what)
    return found


def _other_code(chance: random.Random, path: Path, data: bytes) -> bytes:
    begin, end = _code(path, data)
    made = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(begin, end)
        made[at] = made[at] ^ 1 << chance.randrange(8) if chance.random() < 0.7 else 0
    return bytes(made)


def _code(path: Path, data: bytes) -> tuple[int, int]:
    """From where to where the program is in the file."""
    for one in Elf(data).sections:
        if one.name.startswith("sk_reuseport"):
            return one.offset, one.offset + one.size
    raise AssertionError(f"{path} has no program")


def _read(data: bytes, found: Found, what: str) -> ObjectPolicy | None:
    try:
        return objects.match(linker.read(data))
    except (WireError, UsageError):
        found.counts["refused by the reader"] += 1
    except Exception:  # noqa: BLE001  whatever it is, it is a finding
        found.finding(f"{what}\n{traceback.format_exc(limit=-4)}")
    return None


def _load(policy: ObjectPolicy, found: Found, what: str) -> None:
    size = sum(one.entries * (one.key_size + one.value_size) for one in policy.maps)
    if size > _MOST_BYTES or any(one.entries > _MOST_ENTRIES for one in policy.maps):
        found.counts["too large to try"] += 1
        return
    try:
        LoadedObject(policy).close()
        found.counts["loaded"] += 1
    except VerifierError:
        found.counts["refused by the verifier"] += 1
    except KernelError as error:
        found.counts[f"refused by {error.call} with {error.name}"] += 1
    except UsageError:
        found.counts["refused before loading"] += 1
    except Exception:  # noqa: BLE001  whatever it is, it is a finding
        found.finding(f"{what}\n{traceback.format_exc(limit=-4)}")
