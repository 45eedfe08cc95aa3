"""Kill random workers of an instance, to see which connections its clients lose.

segue run --name hello --bind 127.0.0.1:8080 --workers 4 -- python -m examples.asyncio_server
python -m examples.crashing --name hello --every 1 --times 60 --signal KILL
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time


def serving(name: str) -> list[int]:
    """The processes of the workers that have a share; [] if there is no such instance."""
    command = [sys.executable, "-m", "segue", "status", "--name", name, "--json"]
    asked = subprocess.run(command, capture_output=True, check=False)
    if asked.returncode:
        return []
    workers = json.loads(asked.stdout)["workers"]
    return [one["pid"] for one in workers if one["stage"] == "serving"]


def main() -> int:
    """Returns 0 if all kills were done, 1 if there was no worker to kill."""
    reader = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reader.add_argument("--name", required=True, help="the instance")
    reader.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    reader.add_argument("--times", type=int, default=10)
    reader.add_argument("--signal", default="KILL", help="such as KILL, SEGV or ABRT")
    asked = reader.parse_args()
    number = signal.Signals[f"SIG{asked.signal}"]
    for _ in range(asked.times):
        time.sleep(asked.every)
        pids = serving(asked.name)
        if not pids:
            sys.stderr.write(f"no worker of {asked.name} serves; see segue status\n")
            return 1
        victim = random.choice(pids)
        os.kill(victim, number)
        print(f"{number.name} to {victim}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
