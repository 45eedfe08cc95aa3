"""A program that refuses new connections to a group, loaded when the group is to end.

With SK_DROP Linux finds no listener for a SYN and answers with a reset, so a client or a balancer
goes elsewhere at once.  Pins come first, as in every program of Segue's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from segue.engine.loaded import create, load_over
from segue.linux.bpf_maps import Map
from segue.linux.closing import Closing
from segue.policy import common
from segue.policy.compile import compile_policy
from segue.policy.refusal import refuse


class Refusal(Closing):
    """The program, and the maps that it has for itself."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        """``maps`` are those of the group's program; what they lack is made, and stays empty.

        Raises KernelError (EPERM without CAP_BPF), VerifierError.
        """
        with ExitStack() as undo:
            made = {
                one.name: undo.enter_context(create(one))
                for one in common.OWN
                if one.name not in maps
            }
            self.program = undo.enter_context(load_over(compile_policy(refuse), {**maps, **made}))
            self._owned = undo.pop_all()

    def close(self) -> None:
        """Let go of it; what is attached stays attached."""
        self._owned.close()
