"""Work done by a forked child that gave up every privilege, as another user."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """As ``as_user``, by who owns nothing."""
    return as_user(NOBODY, work)


def as_user(uid: int, work: Callable[[], Any]) -> Any:
    """What the work returns, as JSON carries it; fails with the child's traceback."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            answer = {"returned": work()}
        except BaseException:  # noqa: BLE001 - everything is told, and nothing may leave the child
            answer = {"failed": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = json.loads(file.read())
    os.waitpid(child, 0)
    assert "failed" not in told, told["failed"]
    return told["returned"]
