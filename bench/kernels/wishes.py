"""What ``segue run`` says on a kernel to each wish to carry accepted connections: ``--carry``."""

from __future__ import annotations

import sys
from typing import Any

from bench.harness import Segue, free_port

WISHES = ("auto", "app", "http")
# What a kernel before 6.9 is told, and how the command ends (NotSupported).
NAMED = "Linux 6.9"
_REFUSED = 1
_ENDS_S = 10.0
_WORD = "carr"
_SERVER = (sys.executable, "-S", "-E", "examples/asyncio_server.py")


def wishes(engine: str) -> dict[str, Any]:
    """For each wish: the exit code, or None where it served and was restarted; and what it said:
    its last words, or what it said of carrying.
    """
    return {wish: _wish(wish, engine) for wish in WISHES}


def _wish(wish: str, engine: str) -> dict[str, Any]:
    server = Segue(list(_SERVER), free_port(), engine=engine, more=("--carry", wish))
    ended = None
    try:
        server.wait_serving()
        server.restart()
    except RuntimeError:
        ended = server.process.wait(_ENDS_S)
    finally:
        said = server.log().splitlines()
        server.stop()
    lines = [line for line in said if ended is not None or _WORD in line]
    return {"exit": ended, "said": "\n".join(lines)}


def faults(answers: dict[str, Any], *, can: bool) -> list[str]:
    """What is not as it should be on a kernel that can carry, or cannot.

    Where it cannot, ``auto`` serves without a word of it, and the others are refused in one
    sentence that names the release.
    """
    found = []
    for wish, answer in answers.items():
        said = answer["said"]
        if can or wish == "auto":
            if answer["exit"] is not None:
                found.append(f"--carry {wish} ended with {answer['exit']}: {said[-300:]}")
            elif not can and said:
                found.append(f"--carry {wish} says: {said[-300:]}")
        elif answer["exit"] != _REFUSED or NAMED not in said or len(said.splitlines()) != 1:
            found.append(f"--carry {wish} was not refused in a sentence: {said[-300:]}")
    return found
