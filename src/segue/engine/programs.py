"""Which program steers a group: Segue's own, a policy in Python, or a compiled object."""

from __future__ import annotations

from dataclasses import dataclass

from segue.engine import object as objects
from segue.engine import policies
from segue.engine.loaded import Loaded, load
from segue.engine.migrate import Migrate
from segue.engine.steering import Steering
from segue.errors import UsageError


@dataclass(frozen=True, slots=True)
class ProgramChoice:
    """A ``policy``, FILE.py:NAME or one of the library, or an ``object``, a file; or neither."""

    policy: str = ""
    object: str = ""

    def __post_init__(self) -> None:
        if self.policy and self.object:
            raise UsageError("--policy and --object are both programs that select: give one")

    def __bool__(self) -> bool:
        """Something else than Segue's own program."""
        return bool(self.policy or self.object)

    def __str__(self) -> str:
        return f"policy {self.policy}" if self.policy else f"the program of {self.object}"

    def check(self) -> None:
        """Whether the kernel takes it: everything is made and loaded, and closed again.

        Raises as ``steering`` does.
        """
        self.steering().close()

    def steering(self) -> Steering:
        """Steering of one group by it; nothing is attached until a listener joins.

        Raises UsageError for what is no such program, PolicyError with the place, VerifierError,
        KernelError (EPERM without CAP_BPF).
        """
        return objects.steering(self.object) if self.object else Migrate(self.load())

    def load(self) -> Loaded:
        """The same for a group whose table is to be read.

        Raises as ``steering``, and UsageError for an object that reads no table.
        """
        if self.object:
            return objects.load(self.object)
        return load(policies.compiled(self.policy) if self.policy else None)
