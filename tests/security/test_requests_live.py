"""One-line requests to a supervisor that serves: none ends it, and none is done by half."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.attaching import HERE, Attach
from tests.supervisor.instance import Instance
from tests.waiting import PATIENCE

from segue.linux.sockopt import open_listener

pytestmark = pytest.mark.root

LINES = {
    "a weight for worker \u00b2": b'{"do":"weights","weights":{"\xc2\xb2":1}}',
    "a worker of 5,000 digits": b'{"do":"weights","weights":{"' + b"9" * 5000 + b'":1}}',
    "60,000 brackets": b"[" * 60_000,
    "12,000 objects": b'{"a":' * 12_000,
    "workers of 400 digits": b'{"do":"scale","workers":' + b"9" * 400 + b"}",
    "a canary of 400 digits": b'{"do":"restart","canary":' + b"9" * 400 + b"}",
    "keep of 400 digits": b'{"do":"restart","keep":' + b"9" * 400 + b"}",
    "a weight of 400 digits": b'{"do":"weights","weights":{"1":' + b"9" * 400 + b"}}",
    "a weight of 1e308": b'{"do":"weights","weights":{"1":1e308}}',
    "one of two weights": b'{"do":"weights","weights":{"1":0.5,"2":1e9}}',
    "keys that are no list": b'{"do":"map","map":"x","delete":5}',
    "keep of 1e999": b'{"do":"restart","keep":1e999}',
    "NaN where nothing looks": b'{"do":"scale","workers":NaN}',
    "a key of infinity": b'{"do":"map","map":"x","set":{"1":Infinity}}',
}


def sent(path: str, line: bytes) -> dict[str, Any]:
    """The last answer to this line."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(path)
        client.sendall(line + b"\n")
        with client.makefile() as lines:
            found: dict[str, Any] = json.loads(lines.readlines()[-1])
            return found


def test_no_request_ends_the_supervisor(netns: int, tmp_path: Path) -> None:
    """Each is refused with exit code 2; workers, shares and size are as before."""
    with Instance(tmp_path) as instance:
        instance.wait_serving()
        for what, line in LINES.items():
            assert sent(instance.control, line)["exit"] == 2, what
        found = instance.status()
        assert (found["phase"], found["size"], found["newcomer"]) == ("serving", 1, None)
        assert [one["share"] for one in found["workers"]] == [100.0]
        assert "bug" not in instance.said()


@pytest.mark.kernel("5.14")
@pytest.mark.program("mount")
def test_no_request_ends_who_follows_a_group(
    netns: int, tmp_path: Path, bpf_directory: str
) -> None:
    """Segue attach refuses each, and goes on."""
    with (
        open_listener(HERE, backlog=8),
        Attach(tmp_path, bpf_directory, "--ready", "listen") as here,
    ):
        here.wait_attached(1)
        for what, line in LINES.items():
            assert sent(here.control, line)["exit"] == 2, what
        assert [one["share"] for one in here.status()["workers"]] == [100.0]
        assert "bug" not in here.said()
