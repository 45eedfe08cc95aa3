"""The nice values of a process: of its threads, and of its session (sched(7)).

A nice value is a thread's (setpriority(2) on Linux), and is inherited.  Where the kernel groups
the threads of each session (autogroups), those of one session compete with others by the value of
the session, ``/proc/PID/autogroup``, and not by their own.
"""

from __future__ import annotations

import contextlib
import os
import threading

LOWEST = 19  # about 1.5 % of a processor that somebody of nice 0 wants whole


def of(thread: int) -> int | None:
    """A thread's nice value; None when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpriority(os.PRIO_PROCESS, thread)
    return None


def change(process: int, before: int, after: int) -> bool:
    """Give ``after`` to each thread of this process that has ``before``.

    False when one of them may not be changed.  A thread that one of them starts meanwhile inherits
    the value of either.
    """
    known: set[str] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while new := set(os.listdir(f"/proc/{process}/task")) - known:
            known |= new
            for thread in map(int, new):
                try:
                    if of(thread) == before:
                        os.setpriority(os.PRIO_PROCESS, thread, after)
                except ProcessLookupError:
                    continue
                except PermissionError:
                    return False
    return True


def of_session(process: int) -> int | None:
    """The nice value of its session; None when it is gone, or without CONFIG_SCHED_AUTOGROUP."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/autogroup", "rb") as file:
        words = file.read().split()
        return int(words[-1]) if words else None
    return None


def change_session(process: int, value: int) -> bool:
    """Set that of its session.  False when it may not be, or not yet.

    Without CAP_SYS_ADMIN the kernel takes ten changes a second, of everybody together
    (proc_sched_autogroup_set_nice).
    """
    try:
        with open(f"/proc/{process}/autogroup", "wb", buffering=0) as file:
            file.write(b"%d" % value)
    except OSError:
        return False
    return True


def can_return() -> bool:
    """Whether a thread of ours that has gone to the lowest value may come back.

    That needs CAP_SYS_NICE, or an RLIMIT_NICE that reaches so far (can_nice in the kernel).  It is
    tried, by a thread that ends with the answer.
    """
    answers: list[bool] = []

    def there_and_back() -> None:
        thread = threading.get_native_id()
        usual = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, LOWEST)
        try:
            os.setpriority(os.PRIO_PROCESS, thread, usual)
        except PermissionError:
            answers.append(False)
        else:
            answers.append(True)

    trial = threading.Thread(target=there_and_back)
    trial.start()
    trial.join()
    return answers == [True]
