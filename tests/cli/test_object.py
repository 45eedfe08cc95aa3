"""``--object`` as users give it: one sentence for each fault, and docs that are what runs."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bpf.objects import GOLDEN, HOOK, OBJECTS, SOCKARRAY, File, policy
from tests.cli.test_bad_input import NOBODY, run
from tests.supervisor.instance import ROOT

from segue.bpf import asm
from segue.bpf.insn import R0, R7, Size
from segue.engine import object as objects
from segue.policy.object import program

CHECK = ("run", "--check", "--bind", "127.0.0.1:9")


def test_the_example_of_the_docs_is_the_object_that_the_tests_run() -> None:
    """Word for word, but for the line that names its licence."""
    text = (ROOT / "docs" / "OBJECT.md").read_text()
    (example,) = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    source = (GOLDEN / "live.bpf.c").read_text()
    assert example == source.split("\n", 1)[1]
    for name in ("live", "table"):
        found = objects.read(str(GOLDEN / f"{name}.bpf.o"))
        waiting = None if found.by_table else 9
        code = program(found, range(3, 3 + len(found.maps)), 8, waiting)
        ours = sum(one.slots for one in code) - sum(one.slots for one in found.object.instructions)
        assert re.search(rf"\b{ours}\b", text), f"{ours} slots before an object"


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_checking_loads_the_program() -> None:
    """Nothing is bound, and a sound one is good."""
    assert run(*CHECK, "--object", str(GOLDEN / "live.bpf.o"), "--", "true") == (0, "")


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, 0, "not an ELF file"),
        (4, 1, "32-bit file"),
        (5, 2, "big-endian file"),
        (18, 62, "machine 62, not for BPF"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_one(
    tmp_path: Path, at: int, value: int, said: str
) -> None:
    """By the file's name and what it is; exit code 2."""
    data = bytearray(policy())
    struct.pack_into("<B", data, at, value)
    (tmp_path / "odd.o").write_bytes(data)
    code, error = run(*CHECK, "--object", str(tmp_path / "odd.o"), "--", "true")
    assert code == 2
    assert error.startswith(f"segue: {tmp_path}/odd.o cannot be used as a policy: ELF header: is ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.root
@pytest.mark.kernel("5.14")
def test_the_verifiers_last_words_are_shown(tmp_path: Path) -> None:
    """A sentence, and the end of the log below it; exit code 1."""
    made = File()
    made.function(HOOK, [asm.load(Size.U64, R0, R7, 0), asm.leave()])
    made.maps(sockets=SOCKARRAY)
    (tmp_path / "bad.o").write_bytes(made.build())
    code, error = run(*CHECK, "--object", str(tmp_path / "bad.o"), "--", "true")
    first, *rest = error.splitlines()
    assert code == 1
    assert first.startswith("segue: loading the program f: bpf(BPF_PROG_LOAD) failed with EACCES")
    assert "R7 !read_ok" in first
    assert any("r0 = *(u64 *)(r7 +0)" in line for line in rest)
    assert 1 < len(rest) <= 12


def test_another_engine_cannot_run_it() -> None:
    """What was asked for contradicts itself; exit code 2."""
    code, error = run(*CHECK, "--engine", "drain", "--object", "my.o", "--", "true")
    assert (code, "needs the engine migrate (got --engine drain)" in error) == (2, True)


def check_as(prefix: tuple[str, ...], path: Path) -> tuple[int, str]:
    """Exit code and words of ``segue run --check`` with fewer capabilities."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "segue", *CHECK, "--object", str(path), "--", "true"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("name", OBJECTS)
def test_the_one_capability_is_enough(name: str) -> None:
    """With CAP_BPF and without CAP_PERFMON the verifier asks more of pointers."""
    only_bpf = ("setpriv", "--bounding-set=-all,+bpf", "--inh-caps=-all")
    assert check_as(only_bpf, GOLDEN / name) == (0, "")


@pytest.mark.root
def test_without_the_capability_it_says_which() -> None:
    """To load anything needs CAP_BPF."""
    code, error = check_as(NOBODY, GOLDEN / "live.bpf.o")
    assert code == 1
    assert "EPERM (Operation not permitted); it needs CAP_BPF, or root" in error
