"""What ``segue attach`` was asked for, checked once, and the network namespace it is to work in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from segue.address import Address
from segue.engine.generations import TOGETHER
from segue.engine.pinning import USUAL
from segue.engine.programs import ProgramChoice
from segue.errors import UsageError
from segue.linux import netns
from segue.observe.origin import Rule
from segue.supervisor.control.paths import check_name, name_of
from segue.supervisor.settings import LONGEST, patience


@dataclass(frozen=True, slots=True)
class AttachSettings:
    """One group, and how it is to be followed."""

    address: Address
    name: str = ""
    netns: str = ""  # NAME, PID or path; "" for the caller's
    generation_by: str = "start"
    together: float = TOGETHER
    canary: float | None = None
    ready: str = "accept"  # or "listen": newcomers get their share as soon as they listen
    ready_http: str = ""
    replace: bool = False
    bpffs: str = USUAL
    traced: bool = True
    rescue: str = "off"  # how long a listener may accept nothing until it counts as stalled
    passing: bool = False  # detach at the end what was attached for this
    allow: tuple[str, ...] = ()  # options in which the listeners may differ
    program_choice: ProgramChoice = field(default_factory=ProgramChoice)

    def __post_init__(self) -> None:
        Rule.parse(self.generation_by)
        _ = self.rescue_after
        if self.name:
            check_name(self.name)
        if self.canary is not None and not 0 <= self.canary <= 100:
            raise UsageError(f"--canary is 0 to 100 percent, not {self.canary:g}")
        if not 0 <= self.together < LONGEST:
            raise UsageError("--together is at least 0 and below a day")
        if self.ready_http and not self.ready_http.startswith("/"):
            raise UsageError(f"--ready-http is a path such as /health, not {self.ready_http!r}")

    @property
    def rescue_after(self) -> float:
        """In seconds; 0 for never.  Raises UsageError for what is no time."""
        if self.rescue == "off":
            return 0.0
        if self.passing:
            return patience(self.rescue, "--after")
        return patience(self.rescue, "--rescue", ", or off,")

    @property
    def program(self) -> str:
        """What is chosen, for the record; "" for Segue's own."""
        return str(self.program_choice) if self.program_choice else ""

    @property
    def instance_name(self) -> str:
        """The given name, or one of the address and the namespace."""
        return self.name or name_of(self.address, self.netns)


def enter(namespace: str) -> None:
    """Move this process into a network namespace; "" for where it is.

    Raises UsageError when there is none of that name, KernelError.
    """
    if namespace:
        descriptor = netns.find(namespace)
        try:
            netns.enter(descriptor)
        finally:
            os.close(descriptor)
