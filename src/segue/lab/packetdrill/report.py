"""What became of a script on both sides, line by line, as text."""

from __future__ import annotations

from segue.lab.packetdrill.judge import Result, Verdict
from segue.lab.packetdrill.script import Script

_AS_TOLD, _DIFFERENT, _REFUSED, _NOT_TOLD, _NOT_REACHED = "=", "≠", "!", "?", ""
_WORDS = {
    Verdict.PASSED: "passed: all was as the script says",
    Verdict.DIFFERENT: "did otherwise in line {line}: {why}",
    Verdict.REFUSED: "cannot be asked, in line {line}: {why}",
}


def rows(
    script: Script, linux: Result | None, model: Result | None
) -> list[tuple[str, str, str, str]]:
    """For each event its line, its text, and a mark for Linux and for the model: "=" is as the
    script says, "≠" the first thing that is not, "!" what cannot be asked, "?" was not told.
    """
    return [
        (str(event.place.line), event.text, _mark(linux, at), _mark(model, at))
        for at, event in enumerate(script.events)
    ]


def _mark(result: Result | None, at: int) -> str:
    if result is None:
        return _NOT_TOLD
    if result.at is None or at < result.at:
        return _AS_TOLD
    if at > result.at:
        return _NOT_REACHED
    return _DIFFERENT if result.verdict is Verdict.DIFFERENT else _REFUSED


def summary(script: Script, name: str, result: Result | None, why_not: str = "") -> str:
    """One sentence about one side."""
    if result is None:
        return f"{name} was not told: {why_not}"
    line = 0 if result.at is None else script.events[result.at].place.line
    return f"{name} {_WORDS[result.verdict].format(line=line, why=result.why)}"
