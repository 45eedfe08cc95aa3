"""An instance is found from another login, from root, and with its files out of sight."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.linux.unprivileged import as_user
from tests.security.test_rights_live import PYTHON
from tests.supervisor.instance import ADDRESS, ROOT, Instance
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.program("setpriv"),
    pytest.mark.usefixtures("netns"),
]

OURS, OTHER = 61011, 61012
SERVED = (PYTHON, "-S", "-E", str(ROOT / "examples" / "asyncio_server.py"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of this user's own that everybody may enter, for temporary files too."""
    made = Path(tempfile.mkdtemp(prefix="segue-test-"))
    made.chmod(0o755)
    for name in ("tmp", "login", "run"):
        (made / name).mkdir(0o755)
    for one in (made, *made.iterdir()):
        os.chown(one, OURS, OURS)
    (made / "tmp").chmod(0o1777)
    yield made
    shutil.rmtree(made)


def who(uid: int) -> tuple[str, ...]:
    """How a command is started as this user."""
    return ("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups") if uid else ()


def login(place: Path, **given: str) -> dict[str, str]:
    """Variables of a login, with temporary files of this test's own."""
    none = dict.fromkeys(("SEGUE_DIRECTORY", "SEGUE_NAME", "XDG_RUNTIME_DIR"), "")
    return {**none, "TMPDIR": str(place / "tmp"), **given}


def segue(place: Path, uid: int, *args: str, **given: str) -> tuple[int, str]:
    """The exit code of a command and all that it has said."""
    done = subprocess.run(
        [*who(uid), sys.executable, "-m", "segue", *args], cwd=ROOT, capture_output=True,
        env={**os.environ, **login(place, **given)}, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


class Theirs(Instance):
    """An instance of the ordinary user's that keeps its files elsewhere."""

    def __init__(self, place: Path, where: Path, **given: str) -> None:
        self.where = where
        super().__init__(place, before=who(OURS), env=login(place, **given), command=SERVED)

    @property
    def control(self) -> str:
        return f"{self.where}/t.sock"


@pytest.fixture
def fallen_back(place: Path) -> Iterator[Theirs]:
    """One that serves and was started where XDG_RUNTIME_DIR is not set."""
    with Theirs(place, place / "tmp" / f"segue-{OURS}") as one:
        yield one.wait_serving()


def test_another_login_of_its_user_finds_it(place: Path, fallen_back: Theirs) -> None:
    """By its name, and as the only one; a second one refers to it, and to its control socket."""
    elsewhere = {"XDG_RUNTIME_DIR": str(place / "login")}
    for args in (("status",), ("status", "--name", "t")):
        code, said = segue(place, OURS, *args, **elsewhere)
        assert (code, said.startswith("t  serving")) == (0, True), said
    code, said = segue(place, OURS, "restart", **elsewhere)
    assert (code, "generation 2 serves" in said) == (0, True), said

    command = ("run", "--bind", ADDRESS, "--", *SERVED)
    code, said = segue(place, OURS, *command, **elsewhere)
    renewing = f"segue restart --name t (control socket {fallen_back.control}) renews it"
    assert (code, renewing in said) == (1, True), said
    code, said = segue(place, OURS, *command[:3], "--name", "t", *command[3:], **elsewhere)
    assert (code, "an instance named t is already running" in said) == (1, True), said


def test_root_finds_that_of_a_user_who_listens(place: Path, fallen_back: Theirs) -> None:
    """It is told whose it is.  Another user finds none."""
    whose = f"this is t of uid {OURS} at {fallen_back.control}"
    code, said = segue(place, 0, "restart", "--name", "t")
    assert (code, "generation 2 serves" in said, whose in said) == (0, True, True), said
    code, said = segue(place, 0, "run", "--bind", ADDRESS, "--", *SERVED)
    renewing = f"segue restart --control {fallen_back.control} renews it"
    assert (code, renewing in said) == (1, True), said
    code, said = segue(place, OTHER, "status")
    theirs = "no instance of yours is running; start one with segue run, or ask root's with sudo"
    assert (code, theirs in said) == (2, True), said


def test_an_instance_in_a_place_with_two_paths_is_one(place: Path) -> None:
    """As everywhere where TMPDIR is /tmp: root finds it without being asked for a name."""
    usual = Path(f"/tmp/segue-{OURS}")
    try:
        with Theirs(place, usual, TMPDIR="/tmp") as one:
            one.wait_serving()
            code, said = segue(place, 0, "status", TMPDIR="/tmp")
            assert (code, f"this is t of uid {OURS} at {usual}/t.sock" in said) == (0, True), said
    finally:
        shutil.rmtree(usual, ignore_errors=True)


def test_the_workers_tell_where_its_files_are(place: Path) -> None:
    """With another SEGUE_DIRECTORY, or in a mount namespace of its own, it is in no usual place."""
    with Theirs(place, place / "run", SEGUE_DIRECTORY=str(place / "run")) as one:
        one.wait_serving()
        code, said = segue(place, OURS, "status")
        assert (code, f"t at {one.control}, which pid" in said) == (2, True), said
        code, said = segue(place, OURS, "restart", "--name", "t")
        assert (code, "generation 2 serves" in said) == (0, True), said


@pytest.mark.program("unshare")
@pytest.mark.program("mount")
def test_root_reaches_one_in_a_mount_namespace_of_its_own(place: Path, tmp_path: Path) -> None:
    """As with PrivateTmp= of systemd: its socket has no path here but by way of /proc."""
    apart = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {place}/tmp; exec "$@"', "sh")
    elsewhere = {"SEGUE_DIRECTORY": f"{place}/tmp/segue"}
    with Instance(tmp_path, before=apart, env=elsewhere) as one:

        def found() -> bool:
            code, said = segue(place, 0, "status", "--name", "t")
            return (code, f"/proc/{one.process.pid}/root{place}/tmp/segue/t.sock" in said) == (0, 1)

        wait_until(found, one.said())
        code, said = segue(place, 0, "restart", "--name", "t")
        assert (code, "generation 2 serves" in said) == (0, True), said
        assert not os.listdir(place / "tmp")
        code, said = segue(place, 0, "stop", "--name", "t")
        assert (code, one.wait()) == (0, 0), said


def test_a_successor_finds_the_record_of_another_login(place: Path, fallen_back: Theirs) -> None:
    """It takes over there, where workers look for their flags."""
    fallen_back.process.kill()
    fallen_back.process.wait()
    fallen_back.env["XDG_RUNTIME_DIR"] = str(place / "login")
    fallen_back.again()
    fallen_back.wait_serving()
    assert "took over 1 worker(s) of a supervisor that died" in fallen_back.said()
    # The worker is no child of it, and would be left.
    assert fallen_back.ask("stop")["exit"] == 0
    assert fallen_back.wait() == 0


def test_root_asks_nobody_behind_a_link_that_a_user_plants(place: Path, tmp_path: Path) -> None:
    """Another supervisor than the user's own would answer there: it is not taken for his."""
    with Instance(tmp_path) as roots:
        roots.wait_serving()

        def plant() -> None:
            os.mkdir(place / "tmp" / f"segue-{OURS}", 0o755)
            os.symlink(roots.control, place / "tmp" / f"segue-{OURS}" / "u.sock")
            listening.bind(("127.0.0.1", 8081))
            listening.listen()

        with socket.socket() as listening:
            as_user(OURS, plant)
            code, said = segue(place, 0, "stop", "--name", "u")
            assert (code, "there is no control socket at /run/segue/u.sock" in said) == (1, True)
            assert roots.process.poll() is None
            assert roots.workers("serving")


def test_an_ordinary_user_is_not_made_to_ask_another(place: Path) -> None:
    """A socket that he names himself must be his own or root's."""
    with socket.socket(socket.AF_UNIX) as listening:

        def plant() -> None:
            # As a server that hides whose it is: everybody may connect to it.
            listening.bind(str(place / "tmp" / "t.sock"))
            os.chmod(place / "tmp" / "t.sock", 0o666)
            listening.listen()

        as_user(OTHER, plant)
        code, said = segue(place, OURS, "stop", "--control", str(place / "tmp" / "t.sock"))
    assert (code, f"is uid {OTHER}'s" in said, "it is not asked" in said) == (1, True, True), said
