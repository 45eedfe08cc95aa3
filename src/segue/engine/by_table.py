"""The steering of an object that reads Segue's table of shares."""

from __future__ import annotations

from segue.engine.loaded import Loaded
from segue.engine.migrate import Migrate
from segue.policy.object import Policy


class ByTable(Migrate):
    """As Migrate, with the object's program and maps in place of the built-in ones."""

    _loaded: Loaded | None = None

    def __init__(self, policy: Policy) -> None:
        """Raises KernelError (EPERM without CAP_BPF), VerifierError."""
        self._policy = policy
        super().__init__()

    def _load(self) -> None:
        self._loaded = loaded = Loaded(self._policy)
        ours = {name: loaded.maps[number] for name, number in self._policy.ours.items()}
        self._sockets, self._pins = loaded.sockets, loaded.pins
        self._tables, self._control = ours["tables"], ours["control"]
        self._counters = ours.get("counters")
        self._program = loaded.program

    def variables(self) -> dict[str, int]:
        """As in Steering: those of 1, 2, 4 and 8 bytes, unsigned."""
        return self._loaded.variables() if self._loaded is not None else {}

    def close(self) -> None:
        """As in Steering; twice is no error."""
        if self._loaded is not None:
            self._loaded.close()
