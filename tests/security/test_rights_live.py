"""What a worker has of its supervisor's rights and descriptors: nothing that was not named."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.instance import Instance
from tests.waiting import wait_until

from segue.linux import capability
from segue.linux.close_range import close_each_on_exec

pytestmark = [
    pytest.mark.root,
    pytest.mark.program("setpriv"),
    pytest.mark.usefixtures("netns"),
]

OURS = 61001
OTHER = 65534  # nobody, who has an entry in every passwd(5)
# A virtual environment may be where no other user may go.
PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
COMMAND = (PYTHON, "-S", "-E", str(Path(__file__).with_name("confessing.py")))
BIND = capability.bits(["net_bind_service"])
PORT = {"PORT": "80"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that everybody may enter, with one for the supervisor in it."""
    made = Path(tempfile.mkdtemp(prefix="segue-test-"))
    (made / "run").mkdir(0o755)
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ours(place: Path) -> Path:
    """The same, of uid 61001."""
    for one in (place, place / "run"):
        os.chown(one, OURS, OURS)
    return place


def ambient(*names: str) -> tuple[str, ...]:
    """What systemd makes of User=, SupplementaryGroups= and AmbientCapabilities=."""
    caps = ",".join(f"+{name}" for name in names)
    return (
        *("setpriv", "--reuid", str(OURS), "--regid", str(OURS), "--groups", "0,42,4242"),
        *(f"--inh-caps={caps}", f"--ambient-caps={caps}", "--"),
    )


def confession(one: Instance) -> dict[str, Any]:
    """What the first worker said of itself."""
    wait_until(
        lambda: "confession" in one.said() or one.process.poll() is not None,
        f"a worker's confession\n{one.said()}",
    )
    lines = [line for line in one.said().splitlines() if "confession {" in line]
    assert lines, one.said()
    told: dict[str, Any] = json.loads(lines[0].split("confession ", 1)[1])
    return told


def test_another_users_worker_has_no_right_of_the_supervisors(ours: Path) -> None:
    """No capability, no group, no way to root; and the supervisor can end it."""
    before = ambient("setuid", "setgid", "kill", "bpf", "net_admin")
    with Instance(ours, "--user", "nobody", command=COMMAND, before=before) as one:
        told = confession(one)
        assert told["uids"] == [OTHER] * 3
        assert told["gids"] == [OTHER] * 3
        assert told["groups"] == [OTHER]
        assert told["CapEff"] == told["CapPrm"] == told["CapInh"] == told["CapAmb"] == 0
        assert told["no_new_privs"] == 1
        assert not told["root"]
        one.wait_serving()
        assert one.ask("restart")["exit"] == 0
        assert one.ask("stop")["exit"] == 0
        assert one.wait() == 0


def test_the_supervisors_own_user_has_no_capability_either(ours: Path) -> None:
    """A worker needs none of those by which the supervisor loads programs."""
    with Instance(ours, command=COMMAND, before=ambient("bpf", "net_bind_service")) as one:
        told = confession(one)
        assert told["uids"] == [OURS] * 3
        assert told["CapEff"] == told["CapPrm"] == told["CapInh"] == told["CapAmb"] == 0
        assert told["no_new_privs"] == 0


KEEPING = ("--keep-capability", "CAP_NET_BIND_SERVICE", "--bind-by", "worker")
LOW = ("--bind", "127.0.0.1:80")


def test_a_capability_that_is_named_is_kept(ours: Path) -> None:
    """A worker that binds port 80 itself can be let; the others are gone all the same."""
    before = ambient("bpf", "net_bind_service")
    with Instance(ours, *KEEPING, *LOW, command=COMMAND, before=before, env=PORT) as one:
        told = confession(one)
        assert told["CapEff"] == told["CapPrm"] == told["CapAmb"] == BIND
        one.wait_serving()


def test_a_capability_is_kept_over_a_change_of_user(place: Path) -> None:
    """Another user's worker binds port 80, without any other right of root's."""
    flags = ("--user", "nobody", *KEEPING, *LOW)
    with Instance(place, *flags, command=COMMAND, env=PORT) as one:
        told = confession(one)
        assert told["CapEff"] == told["CapPrm"] == told["CapAmb"] == BIND
        assert not told["root"]
        one.wait_serving()


@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        (("setuid", "kill"), "CAP_SETGID"),
        (("setuid", "setgid"), "CAP_KILL"),
        (("setgid", "kill"), "CAP_SETUID"),
        (("setgid",), "CAP_KILL and CAP_SETUID"),
    ],
)
def test_what_could_not_be_undone_is_not_begun(
    ours: Path, has: tuple[str, ...], lacks: str
) -> None:
    """Without a capability that starting or ending workers takes, nothing starts; it is named."""
    with Instance(ours, "--user", "nobody", command=COMMAND, before=ambient(*has)) as one:
        assert one.wait() == 2
        assert f"without {lacks}," in one.said()
        assert "confession" not in one.said()


def test_a_capability_that_nobody_has_cannot_be_kept(ours: Path) -> None:
    """It is said at the start which one it is."""
    keep = ("--keep-capability", "sys_admin")
    with Instance(ours, *keep, command=COMMAND, before=ambient("bpf")) as one:
        assert one.wait() == 2
        assert "does not have CAP_SYS_ADMIN" in one.said()


@pytest.mark.parametrize(
    ("flags", "expected"), [((), 1), (("--allow-new-privileges",), 0)], ids=["by default", "let"]
)
def test_a_worker_of_roots_gets_no_new_privileges(
    place: Path, flags: tuple[str, ...], expected: int
) -> None:
    """Not by a set-user-ID program, unless that is asked for; groups and capabilities are gone."""
    with Instance(place, "--user", "nobody", *flags, command=COMMAND) as one:
        told = confession(one)
        assert told["no_new_privs"] == expected
        assert told["groups"] == [OTHER]
        assert told["CapEff"] == told["CapPrm"] == told["CapInh"] == 0
        assert not told["root"]


def test_root_stays_root_without_a_user(place: Path) -> None:
    """Who runs workers as root has them as root."""
    with Instance(place, command=COMMAND) as one:
        told = confession(one)
        assert told["uids"] == [0] * 3
        assert told["CapEff"] == capability.mine().effective
        assert told["no_new_privs"] == 0


def test_no_descriptor_of_the_shells_reaches_a_worker(place: Path) -> None:
    """Standard ones and the listener, whatever else was open when the supervisor was started."""
    secret = place / "secret"
    secret.write_text("nobody's business")
    secret.chmod(stat.S_IRUSR)
    shell = f"exec 9<{secret} 3<{secret} 250<{secret} && exec " + '"$@"'
    before = ("bash", "-c", shell, "bash")
    with Instance(place, "--user", "nobody", command=COMMAND, before=before) as one:
        told = confession(one)
        assert sorted(int(number) for number in told["fds"]) == [0, 1, 2, 3]
        assert str(secret) not in told["fds"].values()
        assert told["fds"]["3"].startswith("socket:")


def test_without_the_system_call_each_descriptor_is_marked(place: Path) -> None:
    """On a kernel before 5.11 the listing of /proc does the same, from the number on."""
    numbers = [os.open(place, os.O_RDONLY) for _ in range(3)]
    try:
        for one in numbers:
            os.set_inheritable(one, True)
        close_each_on_exec(numbers[1])
        assert [os.get_inheritable(one) for one in numbers] == [True, False, False]
    finally:
        for one in numbers:
            os.close(one)
