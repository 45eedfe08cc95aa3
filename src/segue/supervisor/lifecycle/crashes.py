"""Deaths of workers in the working generation: which count, and when the next start may be."""

from __future__ import annotations

from collections.abc import Sequence

from segue.supervisor.lifecycle.stages import Stage

# A worker that died after serving for so long was no failed start.
PROVEN = 0.5
# Seldom enough that a broken program costs nothing, and soon enough that clients still wait when
# its cause has passed: curl and browsers wait for minutes.
SLOWEST = 10.0
_STREAK = 9  # crashes in a row, until starts are so far apart


def is_crash(before: Stage, served: float, code: int | None, *, accepted: bool = False) -> bool:
    """Whether a death that nobody asked for counts as a failed start.

    ``accepted``: it was about to be ready, so it has served what waited in its queue.  A worker
    that served and exits with 0 has used up its quota (``--limit-max-requests`` of uvicorn),
    however soon that was.  One that served for a while is replaced at once, however many
    do: to do without it would make its clients pay.
    """
    if before is not Stage.SERVING:
        return not (accepted and code == 0)
    return code != 0 and served < PROVEN


def noted(crashes: Sequence[float], now: float, window: float) -> list[float]:
    """The crashes with this one; without those that neither a limit nor the back-off needs."""
    everyone = [*crashes, now]
    recent = sum(1 for when in everyone if when > now - window)
    return everyone[-max(recent, _STREAK) :]


def backoff(crashes: Sequence[float], window: float, now: float) -> float:
    """The earliest time to spawn the next worker after this failed start.

    After the first crash there is no delay, because a single crash is most often a worker that
    replaces itself.  Then the delay doubles from 0.1 s to 10 s, and stays there for as long as
    starts fail: the window does not end a streak, else the pace would quicken once a minute.
    """
    apart = max(window, 2 * SLOWEST)
    streak, later = 0, now
    for when in reversed(crashes):
        if later - when > apart:
            break
        streak, later = streak + 1, when
    return now + (min(SLOWEST, 0.1 * 2 ** (min(streak, _STREAK) - 2)) if streak > 1 else 0.0)
