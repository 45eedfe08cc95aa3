"""Tasks on Dask: processes of this machine, or a scheduler that runs elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from distributed import Client, LocalCluster, as_completed

Task = TypeVar("Task")
# So many tasks wait at each process: enough that none is idle, and few that are given up at an end.
_AHEAD = 4


@contextmanager
def client(scheduler: str, processes: int) -> Iterator[Client]:
    """Of the scheduler at this address; without one, of so many processes that end with the block.

    These listen on loopback, where other users could send them work: so they ask for a certificate
    that is made for this one run.
    """
    if scheduler:
        with Client(scheduler) as made:
            yield made
        return
    # A terminal's Ctrl-C goes to them too, and each would print where it was: they inherit this.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        local = LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            dashboard_address=None,
            security=True,
            silence_logs=50,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with local, Client(local) as made:
        yield made


def finished(
    made: Client, work: Callable[[Task], Any], tasks: Iterable[tuple[int, Task]]
) -> Iterator[tuple[int, Any]]:
    """The number and the result of each task, as they finish.  A task whose process is killed is
    done by another one.
    """
    waiting = iter(tasks)
    numbers: dict[Any, int] = {}
    under_way = as_completed()

    def begin(count: int) -> None:
        for _, (number, task) in zip(range(count), waiting, strict=False):
            future = made.submit(work, task, pure=False)
            numbers[future.key] = number
            under_way.add(future)

    begin(_AHEAD * max(1, len(made.scheduler_info()["workers"])))
    for future in under_way:
        yield numbers.pop(future.key), future.result()
        begin(1)
