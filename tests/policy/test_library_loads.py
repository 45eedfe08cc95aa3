"""The library's policies: each compiles, and the kernel's verifier takes it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from segue.linux.bpf import Program
from segue.linux.bpf_attr import MapType
from segue.linux.bpf_maps import Map
from segue.policy.compile import compile_policy
from segue.policy.library import LIBRARY
from segue.policy.maps import Kind

KINDS = {
    Kind.HASH: MapType.HASH,
    Kind.ARRAY: MapType.ARRAY,
    Kind.PERCPU_ARRAY: MapType.PERCPU_ARRAY,
    Kind.SOCKETS: MapType.REUSEPORT_SOCKARRAY,
}


@pytest.mark.root
@pytest.mark.kernel("5.14")
@pytest.mark.parametrize("name", LIBRARY)
def test_the_verifier_takes_it(name: str) -> None:
    """Over maps made as declared; no path executes more than the program has."""
    compiled = compile_policy(LIBRARY[name])
    with ExitStack() as stack:
        descriptors = {
            one.name: stack.enter_context(
                Map.create(
                    KINDS[one.kind],
                    key_size=one.key_bytes,
                    value_size=one.value_bytes,
                    entries=one.size,
                )
            ).fileno()
            for one in compiled.maps
        }
        program = compiled.instructions(descriptors)
        stack.enter_context(Program.load(program))
    assert 0 < compiled.worst_case < len(program)
