"""What a supervisor that serves lives through: refusals of the kernel, files removed, bad clients,
workers that hide, flood, shut their listener down or leave something behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import socket
import sys
from errno import EISCONN
from pathlib import Path
from typing import Any

import pytest
from bench.usage import resident_bytes
from tests.supervisor.instance import DRAIN, SERVER, Instance, load
from tests.waiting import PATIENCE, wait_until

from segue.errors import SegueError
from segue.linux import proc
from segue.supervisor.control import client

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]
PYTHON = (sys.executable, "-S", "-E", "-c")
BOTH = pytest.mark.parametrize("engine", ["migrate", DRAIN])
# Accepts, and answers in pieces after waits that the request's path names; SIGTERM ends it only
# when nobody is left, or at once if it was started with "rude".
SLOW = """
import os, signal, socket, sys, threading, time
listener, busy, told = socket.socket(fileno=3), set(), []
def end():
    if told and not busy:
        os._exit(0)
def stop(*_):
    if "rude" in sys.argv:
        os._exit(0)
    told.append(1)
    end()
signal.signal(signal.SIGTERM, stop)
def serve(client):
    path = (client.recv(4096).split(b" ") + [b"", b""])[1].decode()
    waits = [float(word) for word in path.strip("/").split("-") if word]
    client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n" if len(waits) > 1 else b"")
    for wait in waits:
        time.sleep(wait)
        client.sendall(b"." if len(waits) > 1 else b"HTTP/1.1 200 OK\\r\\n\\r\\n.")
    client.close()
    busy.discard(client)
    end()
while True:
    client = listener.accept()[0]
    busy.add(client)
    threading.Thread(target=serve, args=(client,)).start()
"""


def get(path: str) -> socket.socket:
    """A client that has asked for the path."""
    client = socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def connected(client: socket.socket, path: str) -> bool:
    """It has got through to the control socket."""
    return client.connect_ex(path) in {0, EISCONN}


def rest(client: socket.socket) -> bytes:
    """All that it is sent."""
    with client, client.makefile("rb") as stream:
        return stream.read()


@BOTH
def test_a_slow_answer_is_waited_for(netns: int, tmp_path: Path, engine: str) -> None:
    """An answer that takes longer than the idle grace, of a worker that dies at once on TERM."""
    flags = ("--engine", engine, "--idle-grace", "0.1")
    with Instance(tmp_path, *flags, command=(*PYTHON, SLOW, "rude")) as one:
        one.wait_serving()
        client = get("/1.5")
        assert one.ask("restart")["exit"] == 0
        assert rest(client).endswith(b".")
        assert one.status()["cut"] == 0


@BOTH
def test_an_answer_that_pauses_has_the_whole_drain_limit(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """A pause looks like an end, so the worker is told to stop; it is not killed early."""
    flags = ("--engine", engine, "--idle-grace", "0.1", "--stop-timeout", "0.2")
    with Instance(tmp_path, *flags, command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        client = get("/0.01-0.8-0.8")
        assert one.ask("restart")["exit"] == 0
        assert rest(client).endswith(b"...")
        assert "is told to stop: it is quiet" in one.said()
        assert one.status()["cut"] == 0


@pytest.mark.kernel("5.10")
def test_a_worker_that_hides_what_it_has_open_counts_as_busy(netns: int, tmp_path: Path) -> None:
    """Without CAP_SYS_PTRACE nothing is seen of one that is not dumpable: its answer is awaited."""
    hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0)\n"
    before = ("setpriv", "--bounding-set=-sys_ptrace")
    flags = ("--idle-grace", "0.1", "--engine", "drain")
    with Instance(tmp_path, *flags, command=(*PYTHON, hide + SLOW, "rude"), before=before) as one:
        one.wait_serving()
        client = get("/1.0")
        assert one.ask("restart")["exit"] == 0
        assert rest(client).endswith(b".")
        assert "hides what it has open" in one.said()


@BOTH
def test_a_worker_that_shuts_its_listener_down_is_replaced(
    netns: int, tmp_path: Path, engine: str
) -> None:
    """Shutdown on a descriptor that all share ends listening for everyone who has it."""
    gone = tmp_path / "gone"
    script = f"""
import os, socket
listener = socket.socket(fileno=3)
while True:
    client = listener.accept()[0]
    if client.recv(99).startswith(b"GET /shut") and not os.path.exists({str(gone)!r}):
        open({str(gone)!r}, "w").close()
        listener.shutdown(2)
        import signal; signal.pause()
    client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    client.close()
"""
    flags = ("--engine", engine, "--workers", "2", "--drain-timeout", "0.5")
    with Instance(tmp_path, *flags, command=(*PYTHON, script)) as one:
        one.wait_serving(1, 2)
        get("/shut").close()
        wait_until(gone.exists, "the shutdown")
        assert one.ask("restart", **({"now": True} if engine == "migrate" else {}))["exit"] == 0
        one.wait_serving(2, 2)
        gone.unlink()
        get("/shut").close()
        wait_until(lambda: "it is replaced" in one.said(), "a word about it")
        one.wait_serving(2, 2)
        assert rest(get("/")).startswith(b"HTTP/1.1 200")
        assert one.process.poll() is None


def test_too_few_descriptors_fail_a_restart_and_nothing_else(netns: int, tmp_path: Path) -> None:
    """EMFILE in the middle of starting newcomers: they are given up, the old ones serve on; the
    workers keep the limits that the supervisor was started with.
    """
    report = (
        f"import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)\n{SLOW}"
    )
    before = ("prlimit", "--nofile=40:60")
    with Instance(tmp_path, "--workers", "4", command=(*PYTHON, report), before=before) as one:
        one.wait_serving(1, 4)
        assert "(40, 60)" in one.said()
        assert resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE) == (60, 60)
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (32, 60))
        answer = one.ask("restart")
        assert (answer["exit"], "could not be started" in answer["error"]) == (3, True), answer
        one.wait_serving(1, 4)
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (60, 60))
        answer = one.ask("restart")
        assert answer["exit"] == 0, answer


def test_a_removed_directory_is_made_again(netns: int, tmp_path: Path) -> None:
    """A cleaner of /tmp took it: a restart by signal works, and clients find the socket again."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        # The supervisor may notice it half way, and then has removed a file that was to be removed.
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        os.kill(one.process.pid, signal.SIGHUP)
        one.wait_serving(2)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        wait_until(one.status, "the control socket")
        assert one.ask("restart")["exit"] == 0
        assert json.loads((tmp_path / "run" / "t.json").read_text())["instance"]["working"] == 3


def test_a_removed_record_is_written_again(netns: int, tmp_path: Path) -> None:
    """Alone, while the sockets are there: within a second or two, and it is said once."""
    record = tmp_path / "run" / "t.json"
    with Instance(tmp_path) as one:
        one.wait_serving()
        record.unlink()
        wait_until(lambda: "t.json had been removed: it is there again" in one.said(), "the word")
        assert json.loads(record.read_text())["instance"]["working"] == 1
        assert one.said().count("had been removed") == 1


def test_a_full_disk_stops_nothing(netns: int, tmp_path: Path) -> None:
    """The record cannot be written: said once, and a restart works all the same."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        blocker = tmp_path / "run" / "t.json.new"
        blocker.mkdir()
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        assert one.said().count("no supervisor could take over") == 1
        blocker.rmdir()
        assert one.ask("restart")["exit"] == 0
        assert json.loads((tmp_path / "run" / "t.json").read_text())["instance"]["working"] == 3


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "restart", "canary": "x"},
        {"do": "restart", "canary": None},
        {"do": "restart", "canary": [1]},
        {"do": "restart", "keep": float("nan")},
        {"do": "restart", "keep": -1},
        {"do": "restart", "keep": 1e9},
        {"do": "scale", "workers": "many"},
        {"do": "scale", "workers": 1.5},
        {"do": "scale"},
        {"do": "nothing"},
    ],
)
def test_requests_that_make_no_sense_are_refused(
    netns: int, tmp_path: Path, request_: dict[str, Any]
) -> None:
    """Whatever a client sends, it gets a sentence and 2; the instance goes on."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        answer = one.ask(request_["do"], **{k: v for k, v in request_.items() if k != "do"})
        assert answer["exit"] == 2
        assert answer["error"]
        one.wait_serving(1)


def test_clients_that_say_nothing_are_sent_away(netns: int, tmp_path: Path) -> None:
    """At most 32 are waited for, each for five seconds.  Whoever comes then takes the place of the
    one that has said nothing longest, and is answered at once.
    """
    with Instance(tmp_path) as one:
        one.wait_serving()
        with contextlib.ExitStack() as silent:
            answers = []
            for _ in range(40):
                client = silent.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(PATIENCE)
                # No more may wait to be accepted than the supervisor has said: EAGAIN.
                wait_until(functools.partial(connected, client, one.control), "a place")
                answers.append(silent.enter_context(client.makefile("rb")))
            wait_until(lambda: one.status().get("phase") == "serving", "the forty-first's answer")
            codes = [json.loads(answer.readline())["exit"] for answer in answers]
        assert codes == [1] * 9 + [2] * 31


def test_a_supervisor_that_is_stopped_is_said_to_be(
    netns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client waits for a first answer, then says what may be."""
    for wait in ("_SILENCE_SECONDS", "_MORE_SECONDS"):
        monkeypatch.setattr(client, wait, 0.1)
    with Instance(tmp_path) as one:
        one.wait_serving()
        os.kill(one.process.pid, signal.SIGSTOP)
        wait_until(lambda: proc.threads_stopped(one.process.pid), "it is stopped")
        try:
            with pytest.raises(SegueError, match="does not answer"):
                one.ask("status")
        finally:
            os.kill(one.process.pid, signal.SIGCONT)


def test_a_rollback_ends_the_wait_of_another_shell(netns: int, tmp_path: Path) -> None:
    """The old worker still answers somebody, so the restart is not over; a rollback ends it."""
    with Instance(tmp_path, command=(*PYTHON, SLOW)) as one:
        one.wait_serving()
        client = get("/0.01-1.5")
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.settimeout(PATIENCE)
            waiting.connect(one.control)
            waiting.sendall(b'{"do": "restart"}\n')
            wait_until(lambda: one.status().get("working") == 2, "the flip")
            assert one.ask("rollback")["generation"] == 1
            with waiting.makefile("rb") as lines:
                last = [json.loads(line) for line in lines][-1]
        assert (last["exit"], "rolled back" in last["error"]) == (1, True)
        assert rest(client).endswith(b"..")


def test_a_crash_loop_waits_for_the_version_that_mends_it(netns: int, tmp_path: Path) -> None:
    """More deaths than the limit, and nobody serving: while newcomers start it goes on."""
    broken = tmp_path / "broken"
    slow = tmp_path / "slow"
    script = (
        f"[ $SEGUE_GENERATION = 1 ] && [ -e {broken} ] && exit 1;"
        f" while [ $SEGUE_GENERATION = 2 ] && [ -e {slow} ]; do sleep 0.02; done;"
        f" exec {' '.join(SERVER)}"
    )
    with Instance(tmp_path, "--crash-limit", "2", command=("sh", "-c", script)) as one:
        one.wait_serving()
        slow.touch()
        one.ask("restart", wait=False)
        wait_until(lambda: one.workers("starting"), "the newcomer")
        broken.touch()
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: one.said().count("exited with 1") >= 3, "a crash loop")
        slow.unlink()
        one.wait_serving(2)


def test_failed_restarts_are_no_crashes_of_what_serves(netns: int, tmp_path: Path) -> None:
    """Any number of programs that cannot be started leaves the serving generation its respawn."""
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\nexec {' '.join(SERVER)}\n")
    program.chmod(0o755)
    with Instance(tmp_path, "--crash-limit", "2", command=(str(program),)) as one:
        one.wait_serving()
        program.chmod(0o644)
        for _ in range(4):
            answer = one.ask("restart")
            assert (answer["exit"], "not executable" in answer["error"]) == (3, True)
        program.chmod(0o755)
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        one.wait_serving(1)


def test_after_a_rollback_a_respawn_is_said_to_be_the_new_code(netns: int, tmp_path: Path) -> None:
    """What is installed is what starts, under whatever number."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        assert one.ask("restart", keep=60)["exit"] == 0
        one.ask("rollback")
        one.wait_serving(1)
        os.kill(one.workers("serving")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: "may be the version that was rolled back" in one.said(), "a word")
        one.wait_serving(1)


def test_new_connections_are_refused_while_an_instance_stops(netns: int, tmp_path: Path) -> None:
    """Nobody will serve them, so they do not wait for an answer that never comes."""
    close = SLOW.replace("    told.append(1)\n", "    told.append(1)\n    listener.close()\n")
    with Instance(tmp_path, command=(*PYTHON, close)) as one:
        one.wait_serving()
        client = get("/0.01-1.5")
        os.kill(one.process.pid, signal.SIGTERM)
        wait_until(lambda: one.workers("stopping"), "the stop")

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE).close()
            except ConnectionRefusedError:
                return True
            return False

        # The thread that accepts has one accept() under way, which takes one more.
        wait_until(refused, "a refusal")
        assert rest(client).endswith(b"..")
        assert one.wait() == 0


def test_a_takeover_leaves_other_instances_alone(netns: int, tmp_path: Path) -> None:
    """`t` dies and is taken over: what runs beside it as `t.w` and `t.web` is not its."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        base = tmp_path / "run" / "t"
        marks = [f"{base}.web.w1", f"{base}.w.w1", f"{base}.w1", f"{base}.w7x"]
        strangers = [
            os.posix_spawn("/bin/sleep", ["sleep", "60"], {"SEGUE_WORKER": mark}, setsid=True)
            for mark in marks
        ]
        try:
            one.process.kill()
            one.process.wait()
            one.again()
            one.wait_serving()
            assert one.ask("restart")["exit"] == 0
            assert all(proc.run_state(pid) != "Z" for pid in strangers)
        finally:
            for pid in strangers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def test_a_takeover_finds_what_was_not_written_down(netns: int, tmp_path: Path) -> None:
    """A worker that was started in the instant before the supervisor died is told to stop."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        env = {"SEGUE_WORKER": f"{tmp_path}/run/t.w2"}
        unknown = os.posix_spawn("/bin/sleep", ["sleep", "60"], env, setsid=True)
        one.process.kill()
        one.process.wait()
        one.again()
        assert os.waitstatus_to_exitcode(os.waitpid(unknown, 0)[1]) == -signal.SIGTERM
        one.wait_serving()


def test_a_takeover_follows_what_the_command_line_says_now(netns: int, tmp_path: Path) -> None:
    """More workers are started; a worker that prints into a file is taken over all the same."""
    log = tmp_path / "log"
    command = ("sh", "-c", f"exec {' '.join(SERVER)} >{log} 2>&1")
    with Instance(tmp_path, command=command) as one:
        one.wait_serving()
        pid = one.workers("serving")[0]["pid"]
        one.process.kill()
        one.process.wait()
        one.argv[one.argv.index("--") : one.argv.index("--")] = ["--workers", "2"]
        one.again()
        one.wait_serving(1, 2)
        assert pid in {w["pid"] for w in one.workers("serving")}


def test_a_takeover_reads_what_another_version_wrote(netns: int, tmp_path: Path) -> None:
    """Fields that this version does not know are left out."""
    with Instance(tmp_path) as one:
        one.wait_serving()
        one.process.kill()
        one.process.wait()
        record = tmp_path / "run" / "t.json"
        plain = json.loads(record.read_text())
        plain["instance"]["later"] = plain["settings"]["later"] = 1
        plain["instance"]["workers"][0]["later"] = 1
        record.write_text(json.dumps(plain))
        one.again()
        one.wait_serving()
        assert "took over 1 worker(s)" in one.said()


@BOTH
def test_new_code_brings_the_settings_of_the_file(netns: int, tmp_path: Path, engine: str) -> None:
    """Reexec reads segue.toml again: workers and command follow, another address is refused, and
    who waits for a restart is answered by the new code.
    """
    config = tmp_path / "segue.toml"
    config.write_text('drain-timeout = 5\nbind = ["127.0.0.1:8080"]\n')
    flags = ("--config", str(config), "--engine", engine)
    with Instance(tmp_path, *flags, "--bind", "127.0.0.1:8080") as one:
        at = one.argv.index("--bind")
        one.process.kill()
        one.process.wait()
    (tmp_path / "again").mkdir()
    with Instance(tmp_path / "again", *flags, "--bind", "127.0.0.1:8080") as one:
        one.wait_serving()
        assert at
        config.write_text("workers = 2\n")
        with load() as finish:
            assert one.ask("reexec")["exit"] == 0
            one.wait_serving(1, 2)
            config.write_text("workers = 'two'\n")
            answer = one.ask("reexec")
            assert (answer["exit"], "workers must be" in answer["error"]) == (2, True)
            config.write_text("env = ['A=1']\nworkers = 2\n")
            assert one.ask("reexec")["exit"] == 0
            one.wait_serving(2, 2)
            assert finish().lost == 0


def test_a_restart_that_is_awaited_survives_new_code(netns: int, tmp_path: Path) -> None:
    """The client of `segue restart` goes over to the new code, which answers it."""
    slow = tmp_path / "slow"
    script = f"while [ -e {slow} ]; do sleep 0.02; done; exec {' '.join(SERVER)}"
    with Instance(tmp_path, command=("sh", "-c", script)) as one:
        one.wait_serving()
        slow.touch()
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.settimeout(PATIENCE)
            waiting.connect(one.control)
            waiting.sendall(b'{"do": "restart"}\n')
            wait_until(lambda: one.workers("starting"), "the newcomer")
            assert one.ask("reexec")["exit"] == 0
            wait_until(lambda: "new code" in one.said(), "the new code")
            slow.unlink()
            with waiting.makefile("rb") as lines:
                last = [json.loads(line) for line in lines][-1]
        assert (last["exit"], last["generation"]) == (0, 2)


def test_a_worker_that_floods_its_output_holds_nobody_up(netns: int, tmp_path: Path) -> None:
    """As fast as it can: the supervisor answers, restarts, and does not grow."""
    cry = "import threading\ndef cry():\n while True: print('x' * 200)\n"
    flood = f"{cry}threading.Thread(target=cry, daemon=True).start()\n{SLOW}"
    with Instance(tmp_path, command=(*PYTHON, flood)) as one:
        one.wait_serving()
        before = resident_bytes(one.process.pid)
        assert one.ask("restart")["exit"] == 0
        one.wait_serving(2)
        assert resident_bytes(one.process.pid) < before + (16 << 20)


def test_a_worker_that_makes_itself_a_daemon_is_ended_and_told(netns: int, tmp_path: Path) -> None:
    """Its first process is gone, a second runs in a session of its own: found by its mark."""
    pid_file = tmp_path / "pid"
    script = f"""
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
with open({str(pid_file)!r} + ".new", "w") as file: file.write(str(os.getpid()))
os.rename({str(pid_file)!r} + ".new", {str(pid_file)!r})
time.sleep(60)
"""
    daemon_file = tmp_path / "daemon.py"
    daemon_file.write_text(script)
    waiting = f"while [ ! -e {pid_file} ]; do sleep 0.02; done"
    command = ("sh", "-c", f"{sys.executable} -S -E {daemon_file}; {waiting}")
    with Instance(tmp_path, command=command) as one:
        assert one.wait() == 3
        assert "turn their daemon mode off" in one.said()
        assert proc.run_state(int(pid_file.read_text())) in {None, "Z"}


def test_closed_standard_streams_are_no_files_of_ours(netns: int, tmp_path: Path) -> None:
    """With 0, 1 and 2 closed the log goes nowhere, and not into the lock or a socket."""
    closing = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    with Instance(tmp_path, before=closing) as one:
        one.wait_serving()
        assert one.ask("restart")["exit"] == 0
        assert (tmp_path / "run" / "t.lock").read_text() == f"{one.process.pid}\n"
