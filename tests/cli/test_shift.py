"""``segue shift``, ``segue weights`` and ``segue detach`` as users type them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.attaching import HERE, Attach, Servers, servers

from segue.cli.main import main

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14"), pytest.mark.program("mount")]


@pytest.fixture
def group(
    netns: int, tmp_path: Path, bpf_directory: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Attach, Servers]]:
    """Two generations of two plain servers, attached to."""
    with servers() as pool:
        for _ in range(2):
            pool.plain()
        with Attach(tmp_path, bpf_directory, "--generation-by", "env:RELEASE") as one:
            one.wait_attached(2)
            for _ in range(2):
                pool.plain(release="2")
            one.wait_attached(4).wait_share(2, 100)
            monkeypatch.setenv("SEGUE_DIRECTORY", one.env["SEGUE_DIRECTORY"])
            yield one, pool


def test_what_users_type(
    group: tuple[Attach, Servers], bpf_directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each verb says what came of it; what makes no sense is one sentence and exit code 2."""
    one, _ = group

    def segue(*args: str) -> tuple[int, str]:
        code = main(args)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    assert segue("shift", "5") == (0, "generation 2 gets 5 % of new connections\n")
    assert one.shares() == {1: 95, 2: 5}
    assert segue("promote") == (0, "generation 2 serves\n")
    serving = [f"{worker['generation']}.{worker['id']}" for worker in one.workers("serving")]
    for name in (serving[0], f"worker{serving[0][2:]}", serving[0][2:]):
        told = f"worker{serving[0][2:]} gets 0.25 times the share of a sibling\n"
        assert segue("weights", f"{name}=0.25") == (0, told)
        assert [worker["share"] for worker in one.workers("serving")] == [20, 80]
        assert segue("weights", f"{name}=1")[0] == 0
    assert segue("weights", "worker7") == (2, WRITE)
    code, said = segue("status")
    assert code == 0
    for word in (
        "attached",
        "generation 2",
        "generations by env:RELEASE",
        str(HERE),
        "serving",
        "python",
    ):
        assert word in said
    assert segue("rollback") == (0, "generation 1 serves\n")
    assert one.shares() == {1: 100, 2: 0}
    code, said = segue("scale", "3")
    assert (code, "restarted their own way" in said) == (2, True)
    off = ("detach", str(HERE), "--name", "t", "--bpffs", bpf_directory)
    code, said = segue("detach", "127.0.0.1:81", *off[2:])
    assert (code, f"t is attached to {HERE}" in said) == (1, True)
    assert segue(*off) == (0, f"{HERE} is detached: the kernel distributes its connections again\n")
    assert one.wait() == 0
    code, said = segue(*off)
    assert (code, "segue attach has attached nothing" in said) == (1, True)


WRITE = "segue: 'worker7' is not a weight; write for example worker3=0.5\n"
