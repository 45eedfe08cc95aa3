"""The settings of ``segue attach``, checked once, and the network namespace it works in."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Literal, get_args

from segue.address import Address
from segue.engine.generations import TOGETHER
from segue.engine.pinning import USUAL
from segue.engine.programs import ProgramChoice
from segue.errors import UsageError
from segue.linux import netns
from segue.observe.origin import Rule
from segue.supervisor.control.paths import check_name, name_of
from segue.supervisor.control.requests import LONGEST
from segue.supervisor.question import USUAL as QUESTION_STATUS
from segue.supervisor.question import Question
from segue.supervisor.settings import patience

Carry = Literal["off", "http"]


@dataclass(frozen=True, slots=True)
class AttachSettings:
    """Which group to attach to, and how to follow it."""

    address: Address
    name: str = ""
    wait: bool = False  # for a first listener, where there is none
    netns: str = ""  # NAME, PID or path; "" is the namespace of the caller
    generation_by: str = "start"
    together: float = TOGETHER
    canary: float | None = None
    ready: str = "accept"  # or "listen": a new listener gets a share as soon as it listens
    ready_http: str = ""
    ready_host: str = ""
    ready_header: tuple[str, ...] = ()
    ready_status: str = QUESTION_STATUS
    replace: bool = False
    bpffs: str = USUAL
    traced: bool = True
    rescue: str = "off"  # the time without an accept after which a listener is stalled
    carry: Carry = "off"
    idle_grace: float = 1.0
    passing: bool = False  # detach at the end
    allow: tuple[str, ...] = ()  # options in which the listeners may differ
    program_choice: ProgramChoice = field(default_factory=ProgramChoice)

    def __post_init__(self) -> None:
        Rule.parse(self.generation_by)
        _ = self.rescue_after
        if self.carry not in get_args(Carry):
            raise UsageError(f"--carry must be {' or '.join(get_args(Carry))} (got {self.carry})")
        if not (math.isfinite(self.idle_grace) and self.idle_grace >= 0):
            raise UsageError(f"--idle-grace must be 0 or more seconds (got {self.idle_grace:g})")
        if self.name:
            check_name(self.name)
        if self.canary is not None and not 0 <= self.canary <= 100:
            raise UsageError(f"--canary must be between 0 and 100 percent (got {self.canary:g})")
        if not 0 <= self.together < LONGEST:
            raise UsageError(
                "--together must be at least 0 and less than a day in seconds"
                f" (got {self.together:g})"
            )
        if self.ready_question is None:
            for flag, given, usual in (
                ("--ready-host", self.ready_host, ""),
                ("--ready-header", self.ready_header, ()),
                ("--ready-status", self.ready_status, QUESTION_STATUS),
            ):
                if given != usual:
                    raise UsageError(f"{flag} needs --ready-http")

    @property
    def ready_question(self) -> Question | None:
        """What a new listener is asked.  Raises UsageError."""
        if not self.ready_http:
            return None
        return Question.of(
            "--ready-http", self.ready_http, self.ready_host, self.ready_header, self.ready_status
        )

    @property
    def rescue_after(self) -> float:
        """``rescue`` in seconds; 0 means never.  Raises UsageError if it is not a time."""
        if self.rescue == "off":
            return 0.0
        if self.passing:
            return patience(self.rescue, "--after")
        return patience(self.rescue, "--rescue", ", or off")

    @property
    def program(self) -> str:
        """The chosen program, for the record; "" for Segue's own."""
        return str(self.program_choice) if self.program_choice else ""

    @property
    def instance_name(self) -> str:
        """The given name, or a name made from the address and the namespace."""
        return self.name or name_of(self.address, self.netns)


def named(address: Address, name: str) -> str:
    """The arguments by which ``segue attach`` and ``segue detach`` find this instance again."""
    return str(address) if name in {name_of(address), ""} else f"{address} --name {name}"


def enter(namespace: str) -> None:
    """Move this process into a network namespace.  "" leaves it where it is.

    Raises UsageError if there is no such namespace, and KernelError.
    """
    if namespace:
        descriptor = netns.find(namespace)
        try:
            netns.enter(descriptor)
        finally:
            os.close(descriptor)
