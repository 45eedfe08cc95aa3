"""Pins that somebody with the right to has moved: what has the name is not what was pinned."""

from __future__ import annotations

import os

import pytest
from tests.policy.clients import IPV4

from segue.engine import attach as attaching
from segue.engine.attached import Attached
from segue.engine.generations import Generations
from segue.engine.migrate import Migrate
from segue.engine.pinning import Pins
from segue.errors import UsageError
from segue.linux.sockopt import open_listener
from segue.observe.origin import Rule
from segue.observe.snapshot import Observer

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


def test_pins_that_were_exchanged_are_refused(netns: int, bpf_directory: str) -> None:
    """What was pinned is written down by the kernel's ids: another program's table is not filled
    in the belief that it is ours.
    """
    web, adm = Pins("web", bpf_directory), Pins("adm", bpf_directory)
    rule = Rule.parse("start")

    def again() -> Attached:
        return attaching.find_again(
            IPV4, observer, web, rule, Generations(1, rule.by_start), record, 0.0
        )

    with Observer() as observer, open_listener(IPV4, backlog=8), Migrate() as other:
        first = attaching.attach(IPV4, observer, web, rule, Generations(1, rule.by_start), 0.0)
        record = first.to_json()
        first.steering.close()
        adm.pin(other)
        with again().steering:
            pass
        for old, new in ((web, "x"), (adm, "web"), (Pins("x", bpf_directory), "adm")):
            os.rename(old.directory, f"{bpf_directory}/segue/{new}")
        with pytest.raises(UsageError, match="is not what was attached to") as refused:
            again()
        assert f"sockets {record['objects']['sockets']}" in str(refused.value)
