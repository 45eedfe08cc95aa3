"""A worker that does not come to its program: the supervisor goes on without it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.waiting import wait_until

from segue.errors import KernelError
from segue.linux import cgroup
from segue.supervisor.workers import spawn as spawning
from segue.supervisor.workers.identity import Identity
from segue.supervisor.workers.spawn import CHDIR, spawn


@pytest.mark.root
def test_a_frozen_cgroup_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who freezes a cgroup stops what enters it: after some seconds the start is given up."""
    monkeypatch.setattr(spawning, "_BEGIN_SECONDS", 0.2)
    path = f"{cgroup.mine()}/segue.test.frozen.{os.getpid()}"
    cgroup.make(path)
    door = cgroup.open_door(path)
    try:
        Path(path, "cgroup.freeze").write_text("1")
        with pytest.raises(KernelError, match="is its cgroup frozen") as refused:
            spawn(["true"], env={}, cgroup_door=door)
        assert refused.value.errno == errno.ETIMEDOUT
        wait_until(lambda: not cgroup.members(path), "the end of the process")
        assert ended()
    finally:
        os.close(door)
        cgroup.remove(path, 5)


def test_what_could_not_be_prepared_is_said() -> None:
    """The step has a sentence of its own, which comes to the supervisor with the errno."""
    door = os.open(os.devnull, os.O_RDONLY)  # to which nothing can be written
    try:
        with pytest.raises(KernelError, match="it could not be moved into its cgroup"):
            spawn(["true"], env={}, cgroup_door=door)
    finally:
        os.close(door)


def test_a_program_outside_of_path_is_found_where_administrators_have_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nginx on Debian, for an ordinary user; one that is in PATH lacks something else."""
    program = tmp_path / "server"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    monkeypatch.setattr(spawning, "_ADMINISTRATORS", str(tmp_path))
    with pytest.raises(KernelError, match=f"there is {program}: write that"):
        spawn(["server"], env={"PATH": "/nowhere"})
    with pytest.raises(KernelError, match="there is no such program; check"):
        spawn(["server"], env={"PATH": str(tmp_path)})


@pytest.mark.root
def test_a_user_must_be_able_to_enter_a_directory_that_was_chosen(tmp_path: Path) -> None:
    """One that is merely inherited may be closed to it, as after su(1)."""
    tmp_path.chmod(0o700)
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    nobody = Identity.of("nobody", "")
    try:
        with pytest.raises(KernelError) as refused:
            spawn(["true"], env={}, identity=nobody, directory=directory, enter_as_user=True)
        assert (refused.value.call, refused.value.errno) == (CHDIR, errno.EACCES)
        for identity, as_user in ((nobody, False), (None, True)):
            child = spawn(
                ["true"], env=dict(os.environ), identity=identity, directory=directory,
                enter_as_user=as_user,
            )  # fmt: skip
            os.close(child.pidfd)
            os.waitpid(child.pid, 0)
    finally:
        os.close(directory)


def ended() -> list[int]:
    """The children that are reaped now."""
    return [pid for pid, _ in spawning.reap()]
