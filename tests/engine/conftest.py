"""What all tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from segue.bpf.btf import Btf
from segue.engine import carry_facts


@pytest.fixture(autouse=True, scope="session")
def types_are_read_once() -> Iterator[None]:
    """Those of the kernel, for a hundred carriers: in a virtual machine each would take seconds."""
    read = carry_facts.types

    @cache
    def of(file: str) -> Btf:
        del file  # a test may name another, which is no answer to this one
        return read()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carry_facts, "types", lambda: of(carry_facts._TYPES))
        yield
