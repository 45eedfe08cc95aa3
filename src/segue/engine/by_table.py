"""The steering of an object that reads Segue's table of shares."""

from __future__ import annotations

from segue.engine.loaded_object import LoadedObject
from segue.engine.migrate import Migrate
from segue.policy.object import ObjectPolicy


class ByTable(Migrate):
    """As Migrate, with the object's program and maps; the counters only if the object has them."""

    def __init__(self, policy: ObjectPolicy) -> None:
        """Raises KernelError (EPERM without CAP_BPF), VerifierError."""
        self._loaded = LoadedObject(policy)
        super().__init__(self._loaded.by_table())

    def variables(self) -> dict[str, int]:
        """As in KeepingVariables."""
        return self._loaded.variables()

    def descriptors(self) -> dict[str, int]:
        """As in HandingOver: none, so that new code reads the object again."""
        return {}

    def close(self) -> None:
        """As in Steering; twice is no error."""
        self._loaded.close()
