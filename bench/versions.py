"""What was measured, by name and version."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import subprocess

from bench.harness import ROOT
from segue.version import VERSION

PACKAGES = ("granian", "gunicorn", "hypercorn", "pmd-pytcp", "uvicorn")
PROGRAMS = {"nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"]}


def versions() -> dict[str, str]:
    """Of each peer that is installed, and of Segue with the last commit that changed it."""
    found = {"Segue": VERSION}
    with contextlib.suppress(OSError):
        commit = _say(["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--", "src"])
        if re.fullmatch(r"[0-9a-f]{7,}\s*", commit):
            found["Segue"] += f" ({commit.strip()})"
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    for name, argv in PROGRAMS.items():
        with contextlib.suppress(OSError):
            number = re.search(r"\d+\.\d+\.\d+", _say(argv))
            if number:
                found[name] = number[0]
    return found


def _say(argv: list[str]) -> str:
    """What it prints; nginx tells its version on stderr."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout
