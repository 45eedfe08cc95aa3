"""``segue metrics`` beside a real instance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.supervisor.instance import ADDRESS, Instance
from tests.waiting import PATIENCE, wait_until

from segue.linux import pidfd, proc

pytestmark = [pytest.mark.root, pytest.mark.kernel("5.14")]


def scraped() -> dict[str, float]:
    """Every sample by name and labels, {} while nobody answers."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_follow_an_instance_over_a_restart_and_its_death(
    netns: int, tmp_path: Path
) -> None:
    """Decisions are counted on over a restart; a supervisor that is killed is down."""
    with Instance(tmp_path, "--workers", "2") as one:
        one.wait_serving(1, 2)
        command = [sys.executable, "-m", "segue", "metrics", "--control", one.control]
        exporter = subprocess.Popen([*command, "127.0.0.1:9464"])
        try:
            wait_until(scraped, "the exporter answers")
            before = scraped()
            assert before["segue_up"] == 1
            assert before["segue_workers 1 serving"] == 2
            assert before["segue_worker_share_ratio 1 1"] == 0.5
            for _ in range(10):
                with urllib.request.urlopen(f"http://{ADDRESS}/", timeout=PATIENCE):
                    pass
            new = f"segue_selections_total {ADDRESS} new"
            assert scraped()[new] == before[new] + 10
            one.ask("restart", wait=True)
            one.wait_serving(2, 2)
            after = scraped()
            assert after[new] >= before[new] + 10
            assert after["segue_events_total restart served"] == 1
            assert after["segue_workers 2 serving"] == 2
            one.process.kill()
            one.process.wait()
            assert scraped() == {"segue_up": 0}
        finally:
            exporter.terminate()
            assert exporter.wait(PATIENCE) == 0
        once = subprocess.run([*command, "--once"], check=False, capture_output=True, text=True)
        assert once.returncode == 1
        assert "segue_up 0.0" in once.stdout


def exporters(supervisor: int) -> list[int]:
    """The processes with which it exports metrics."""
    return [pid for pid in proc.children(supervisor) if "--lifeline" in proc.command_line(pid)]


def test_the_supervisor_keeps_an_exporter(netns: int, tmp_path: Path) -> None:
    """It has one again after its death and after ``segue reexec``, and none after the stop."""
    with Instance(tmp_path, "--metrics", "127.0.0.1:9464") as one:
        one.wait_serving()
        wait_until(scraped, "the exporter answers")
        (first,) = exporters(one.process.pid)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: exporters(one.process.pid) not in ([], [first]), "another exporter")
        wait_until(scraped, "it answers")
        assert "the exporter of metrics has ended, and is started again" in one.said()
        (second,) = exporters(one.process.pid)
        one.ask("reexec")
        wait_until(lambda: exporters(one.process.pid) not in ([], [second]), "one of the new code")
        wait_until(lambda: scraped().get("segue_up"), "it answers")
        one.ask("stop")
        assert one.wait() == 0
        assert scraped() == {}


def test_the_exporter_ends_with_its_supervisor(netns: int, tmp_path: Path) -> None:
    """Also if that is killed: its successor can have the address."""
    target = f"unix:{tmp_path}/metrics.sock"
    with Instance(tmp_path, "--metrics", target) as one:
        one.wait_serving()
        wait_until((tmp_path / "metrics.sock").exists, "the exporter listens")
        (exporter,) = exporters(one.process.pid)
        watched = os.pidfd_open(exporter)
        one.process.kill()
        one.process.wait()
        wait_until(lambda: pidfd.ended(watched), "the exporter has ended")
        os.close(watched)
        assert not (tmp_path / "metrics.sock").exists()
        one.again()
        wait_until((tmp_path / "metrics.sock").exists, "another one listens")


def test_the_exporter_renews_a_file(netns: int, tmp_path: Path) -> None:
    """It is there when the server serves, and nobody takes it for the present after the stop."""
    file = tmp_path / "segue.prom"
    with Instance(tmp_path, "--metrics", f"textfile:{file}") as one:
        one.wait_serving()
        wait_until(file.exists, "the file is written")
        assert "segue_up 1.0" in file.read_text()
        one.ask("stop")
        assert one.wait() == 0
    assert not file.exists()
