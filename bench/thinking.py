"""Clients that keep a connection each and think: python -m bench.thinking HOST PORT N MOST LEAST.

They are Python's http.client, which sends a request on a kept connection without a look at whether
its server has closed it, and does not send it again: as many client libraries do.  Each thinks for
so many seconds at most and at least, at random, before each request.  A first line says that each
has asked once.  When standard input closes, one line of JSON says what became of the requests.
"""

from __future__ import annotations

import http.client
import json
import random
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Self

from bench.harness import ROOT

_LIMIT_SECONDS = 10.0
_ENDS_SECONDS = 30.0
_BEGINS_SECONDS = 60.0
_BEGUN = "begun\n"


@dataclass(slots=True)
class Thoughts:
    """What became of the requests, and how often a connection was made after the first."""

    asked: int = 0
    reconnected: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def at(self, share: float) -> float:
        """The latency that so many requests do not exceed; 0 when none was answered."""
        there = sorted(self.latencies_ms)
        return there[min(len(there) - 1, int(share * len(there)))] if there else 0.0

    def add(self, other: Thoughts) -> None:
        """Another client's."""
        self.asked += other.asked
        self.reconnected += other.reconnected
        self.latencies_ms += other.latencies_ms
        self.lost += other.lost


class _Client(threading.Thread):
    """One; a request that fails is lost, and the next one has a new connection."""

    def __init__(self, host: str, port: int, least: float, most: float, number: int) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(host, port, timeout=_LIMIT_SECONDS)
        self._least, self._most, self._chance = least, most, random.Random(number)
        self.begun, self.over = threading.Event(), threading.Event()
        self.found = Thoughts()

    def run(self) -> None:
        """Until it is over."""
        made, connection = 0, self._connection
        while not self.over.wait(self._chance.uniform(self._least, self._most)):
            self.found.asked += 1
            made += connection.sock is None
            begun = time.monotonic()
            try:
                connection.request("GET", "/")
                with connection.getresponse() as answer:
                    answer.read()
                    if answer.status != 200:
                        self.found.lost[f"status {answer.status}"] += 1
            except (OSError, http.client.HTTPException) as error:
                # A connection that was closed is made again at the next request.
                connection.close()
                self.found.lost[type(error).__name__] += 1
                continue
            finally:
                self.begun.set()
            self.found.latencies_ms.append((time.monotonic() - begun) * 1000)
        connection.close()
        self.found.reconnected = max(0, made - 1)


class Thinking:
    """The clients, in a process of their own until stopped."""

    def __init__(
        self, host: str, port: int, clients: int, think: float, least: float = 0.0
    ) -> None:
        given = [host, str(port), str(clients), str(think), str(least)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.thinking", *given],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> Thoughts:
        """What was found.  Raises TimeoutError when they do not end."""
        try:
            text, _ = self._process.communicate(timeout=_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the clients did not end within {_ENDS_SECONDS:g} s") from None
        finally:
            self.close()
        found = json.loads(text)
        return Thoughts(**found | {"lost": Counter(found["lost"])})

    def close(self) -> None:
        """End them; twice is no error."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        """Each client has asked once.  Raises TimeoutError when they do not begin."""
        told = self._process.stdout
        assert told
        if not select.select([told], [], [], _BEGINS_SECONDS)[0] or told.readline() != _BEGUN:
            self.close()
            raise TimeoutError(f"the clients did not begin within {_BEGINS_SECONDS:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Tell at the end."""
    host, port, clients, most, least = sys.argv[1:]
    threads = [_Client(host, int(port), float(least), float(most), n) for n in range(int(clients))]
    for one in threads:
        one.start()
    for one in threads:
        one.begun.wait()
    print(_BEGUN, end="", flush=True)
    sys.stdin.read()
    for one in threads:
        one.over.set()
    found = Thoughts()
    for one in threads:
        one.join()
        found.add(one.found)
    print(json.dumps({one.name: getattr(found, one.name) for one in fields(found)}))


if __name__ == "__main__":
    main()
