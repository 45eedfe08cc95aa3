"""Each bad input: one clear sentence on stderr, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.instance import ROOT, SERVER, Instance
from tests.waiting import PATIENCE, wait_until

from segue.cli.main import COMMANDS, main
from segue.linux import proc

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
          "--inh-caps=-all", "--bounding-set=-all")  # fmt: skip


SMALL = """
import socket
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.recv(1000)
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    c.close()
"""


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory that an ordinary user can reach, with one in it that is that user's own."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def own(directory: Path) -> None:
    """Make the instance's directory, and give it to an ordinary user."""
    (directory / "run").mkdir()
    os.chown(directory / "run", 65534, 65534)


def run(*args: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The program as users run it: its exit code and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "segue", *args], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each command of the table works and says how it is used."""
    assert main([name, "--help"] if name else ["--help"]) == 0
    assert "Usage: segue" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "nothing to listen at"),
        (["--bind", ":80"], "nothing to run"),
        (["--bind", "nowhere:80", "--", "x"], "write the number"),
        (["--bind", "127.0.0.1:0", "--", "x"], "name the port"),
        (["--bind", "127.0.0.1:99999", "--", "x"], "above 65535"),
        (["--bind", "[::1%lo]:80", "--", "x"], "only a link-local"),
        (["--bind", "[fe80::1%nope]:80", "--", "x"], "no interface 'nope'"),
        (["--bind", ":80", "--", "x", "{fd}", "{fd}"], "more {fd} than there are --bind options"),
        (["--bind", ":80", "--inject", "--", "x"], "--inject needs --bind-by worker"),
        (["--bind", ":80", "--workers", "0", "--", "x"], "between 1 and 512 (got 0)"),
        (["--bind", ":80", "--backlog", "99999999999", "--", "x"], "--backlog must be between 1"),
        (["--bind", ":80", "--crash-limit", "-1", "--", "x"], "--crash-limit must be at least 1"),
        (["--bind", ":80", "--env", "=x", "--", "x"], "must be NAME=VALUE"),
        (["--bind", ":80", "--check", "--", "no-such-program"], "there is no program"),
        (["--bind", ":80", "--check", "--user", "no-such-user", "--", "x"], "no such user"),
        (["--bind", ":80", "--workers", "two", "--", "x"], "not a valid integer"),
        (["--bind", ":80", "--stop-signal", "NOPE", "--", "x"], "must be a signal"),
        (["--bind", ":80", "--user", "no-such-user", "--", "x"], "no such user"),
        (["--bind", ":80", "--engine", "best", "--", "x"], "'best' is not one of"),
        (["--bind", ":80", "--enginee", "drain", "--", "x"], "No such option"),
        (["--config", "/none.toml", "--", "x"], "cannot be read"),
    ],
)
def test_usage_is_refused_with_2(tmp_path: Path, args: list[str], said: str) -> None:
    """What makes no sense is refused before anything is opened or started."""
    code, stderr = run("run", *args, env={"SEGUE_DIRECTORY": str(tmp_path / "run")})
    assert (code, said in stderr) == (2, True), stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("figure", ["nan", "inf", "-1", "0"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["watch", "--every"], "--every must be from 0.1 to 60 seconds"),
        (["lab", "serve", "--duration"], "must be more than 0 seconds"),
        (["lab", "serve", "--restart-every"], "must be more than 0 seconds"),
    ],
)
def test_times_that_are_none_are_refused(
    args: list[str], said: str, figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are no number, too: no comparison with NaN is true."""
    assert main([*args, figure]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("SEGUE_WORKERS", "x", "Invalid value for '--workers': 'x' is not a valid integer."),
        ("SEGUE_WORKERS", "0", "--workers must be between 1 and 512 (got 0)"),
        ("SEGUE_ENGINE", "best", "Invalid value for '--engine': 'best' is not one of"),
    ],
)
def test_a_wrong_value_in_the_environment_is_named(variable: str, value: str, why: str) -> None:
    """By its variable: there is no such flag on the command line."""
    code, stderr = run("run", "--bind", ":80", "--", "x", env={variable: value})
    assert code == 2
    assert stderr.startswith(f"segue: {variable} in the environment: {why}")


def test_a_wrong_value_in_the_file_is_named(tmp_path: Path) -> None:
    """By its file; a flag that overrides it is not the file's."""
    file = tmp_path / "segue.toml"
    file.write_text('bind = ":80"\ncommand = ["true"]\nworkers = 0\n')
    why = "--workers must be between 1 and 512"
    for more, where in (((), f"{file}: "), (("--workers", "-1"), "")):
        code, stderr = run("run", "--config", str(file), *more)
        assert (code, stderr.startswith(f"segue: {where}{why}")) == (2, True), stderr


@pytest.mark.parametrize("args", [("--help",), ("run", "--help"), ("lab", "explain")])
def test_a_reader_that_is_gone_ends_a_command_with_141(args: tuple[str, ...]) -> None:
    """As SIGPIPE would, whatever draws the output; without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "segue", *args], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program-here"], "there is no such program"),
        (["/etc/passwd"], "it, or the program of its #! line, is not executable"),
        (
            ["sh", "-c", "echo the reason >&2; exit 5"],
            "exited with 5 while starting; its last words: the reason\n",
        ),
        (["true"], "exited with 0"),
    ],
)
def test_a_command_that_does_not_start_ends_with_3(
    netns: int, tmp_path: Path, command: list[str], said: str
) -> None:
    """Not found, not executable, or gone at once: the reason, 3; only lock and history are left."""
    args = ("run", "--name", "t", "--bind", "127.0.0.1:8080", "--", *command)
    code, stderr = run(*args, env={"SEGUE_DIRECTORY": str(tmp_path / "run")})
    assert (code, said in stderr) == (3, True), stderr
    assert sorted(os.listdir(tmp_path / "run")) == ["t.history", "t.lock"]


@pytest.mark.root
def test_an_address_in_use_names_who_uses_it(netns: int, tmp_path: Path) -> None:
    """By pid and program, whether or not the stranger set SO_REUSEPORT; it is not touched."""
    for share in (0, 1):
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
            stranger.bind(("127.0.0.1", 8080))
            stranger.listen()
            code, stderr = run(
                "run", "--bind", "127.0.0.1:8080", "--", *SERVER,
                env={"SEGUE_DIRECTORY": str(tmp_path / "run")},
            )  # fmt: skip
            assert code == 1
            assert f"belongs to pid {os.getpid()} (" in stderr
            socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE).close()


@pytest.mark.root
def test_a_stranger_that_joins_later_is_counted_and_left_alone(netns: int, tmp_path: Path) -> None:
    """It gets no connections, keeps its listener, and is said once."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", 8080))
            stranger.listen()
            stranger.setblocking(False)
            wait_until(lambda: "is left alone" in one.said(), "a word about the stranger")
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                    assert client.recv(12) == b"HTTP/1.1 200"
            with pytest.raises(BlockingIOError):
                stranger.accept()
            assert f"pid {os.getpid()}" in one.status()["fronts"][0]["strangers"][0]
            assert one.ask("restart")["exit"] == 0
            one.wait_serving(2)
        assert one.said().count("is left alone") == 1


@pytest.mark.root
def test_without_privileges_drain_is_used_and_said_once(netns: int, nobodys: Path) -> None:
    """An ordinary user's instance falls back, says why, and restarts all the same."""
    own(nobodys)
    command = ("/usr/bin/python3", "-S", "-E", "-c", SMALL)
    with Instance(nobodys, command=command, before=NOBODY) as one:
        one.wait_serving()
        assert one.status()["engine"] == "drain"
        assert one.said().count("not migrate") == 1
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)


@pytest.mark.root
def test_an_engine_that_is_asked_for_and_cannot_be_had_is_refused(
    netns: int, nobodys: Path
) -> None:
    """--engine migrate without the right to eBPF: no silent fallback, exit 1 with what it needs."""
    own(nobodys)
    with Instance(nobodys, "--engine", "migrate", before=NOBODY) as one:
        assert one.wait() == 1
        assert "the engine migrate needs" in one.said()
        assert "EPERM" in one.said()


@pytest.mark.root
def test_another_user_may_not_control_an_instance(netns: int, nobodys: Path) -> None:
    """The socket is closed to others, and a peer that reaches it all the same is refused."""
    with Instance(nobodys) as one:
        one.wait_serving()
        args = [*NOBODY, sys.executable, "-m", "segue", "status", "--control", one.control]
        refused = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "belongs to another user" in refused.stderr
        os.chmod(one.control, 0o666)
        refused = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "you are uid 65534" in refused.stderr


def test_orders_without_an_instance_are_refused(tmp_path: Path) -> None:
    """None running, an unknown name, a stale socket, a plain file: each said, with what to do."""
    env = {"SEGUE_DIRECTORY": str(tmp_path)}
    assert run("status", env=env) == (
        2, "segue: no instance of yours is running; start one with segue run\n",
    )  # fmt: skip
    code, stderr = run("restart", "--name", "none", env=env)
    assert (code, "there is no control socket at" in stderr) == (1, True)
    assert "no instance of that name is running; segue status shows those that are" in stderr
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "old.sock"))
    code, stderr = run("restart", "--name", "old", env=env)
    assert (code, "has ended and left its socket" in stderr) == (1, True)
    (tmp_path / "plain").touch()
    code, stderr = run("status", "--control", str(tmp_path / "plain"), env=env)
    assert (code, stderr) == (1, f"segue: {tmp_path / 'plain'} is not a socket\n")
    assert run("status", env=env)[0] == 2  # no process listens there, so it is no instance
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for name, one in (("one", first), ("two", second)):
            one.bind(str(tmp_path / f"{name}.sock"))
            one.listen()
        code, stderr = run("status", env=env)
        assert (code, "pick one with --name: one, two" in stderr) == (2, True)


@pytest.mark.root
def test_a_second_instance_of_the_same_name_is_refused(netns: int, tmp_path: Path) -> None:
    """The lock names who runs; the one that runs is not disturbed."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        args = ("run", "--name", "t", "--bind", "127.0.0.1:8081", "--", *SERVER)
        code, stderr = run(*args, env={"SEGUE_DIRECTORY": str(tmp_path / "run")})
        assert (code, f"already running (pid {one.process.pid})" in stderr) == (1, True)
        one.wait_serving()


@pytest.mark.root
def test_workers_run_as_the_user_asked_for(netns: int, nobodys: Path) -> None:
    """--user: the worker has its uid, the supervisor keeps its own."""
    command = ("/usr/bin/python3", "-S", "-E", "-c", SMALL)
    with Instance(nobodys, "--user", "nobody", command=command) as one:
        one.wait_serving()
        for pid, uid in ((one.workers("serving")[0]["pid"], 65534), (one.process.pid, 0)):
            assert os.stat(f"/proc/{pid}").st_uid == uid
        assert one.ask("restart")["exit"] == 0


def test_settings_can_be_checked_without_binding(tmp_path: Path) -> None:
    """--check reads flags, environment and file; a flag wins over the environment over the file."""
    file = tmp_path / "segue.toml"
    file.write_text('bind = [":1"]\ncommand = ["true"]\nworkers = 2\nname = "file"\n')
    done = subprocess.run(
        [sys.executable, "-m", "segue", "run", "--check", "--config", str(file), "--workers", "4"],
        env={**os.environ, "SEGUE_WORKERS": "3", "SEGUE_NAME": "environment"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "environment: 0.0.0.0:1, 4 worker(s): the settings are good\n"
    assert done.returncode == 0


@pytest.mark.root
def test_as_process_1_it_reaps_and_passes_the_signal_on(netns: int, tmp_path: Path) -> None:
    """In a process namespace of its own: an orphan that ends leaves no zombie; TERM ends all."""
    orphan = "(sh -c 'exit 0' &) ; "
    command = ("sh", "-c", f"{orphan} exec {' '.join(SERVER)}")
    before = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with Instance(tmp_path, command=command, before=before) as one:
        one.wait_serving()
        assert one.status()["pid"] == 1
        inner = proc.children(one.process.pid)[0]
        states = {proc.run_state(pid) for pid in proc.tree(inner)}
        assert "Z" not in states
        os.kill(inner, signal.SIGTERM)
        assert one.wait() == 0
