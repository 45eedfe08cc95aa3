"""Where metrics go: HTTP at an address or a Unix socket, and a file."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily
from tests.waiting import PATIENCE

from segue.errors import KernelError, UsageError
from segue.metrics import serving
from segue.metrics.serving import Exporter, exporter
from segue.supervisor.control.export_target import ExportTarget


def one_family() -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("segue_up", "1 if it is.", value=1)


@contextlib.contextmanager
def served(target: str) -> Iterator[Exporter]:
    """An HTTP exporter that answers inside the block."""
    made = exporter(ExportTarget.parse(target), one_family)
    assert isinstance(made, serving._Http)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.close()


@pytest.mark.root
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_answers_over_http(netns: int, host: str) -> None:
    """At /metrics; what else is asked for is not there."""
    with served(f"{host}:9464") as made:
        assert made.where == f"http://{host}:9464/metrics"
        client = http.client.HTTPConnection(host.strip("[]"), 9464, timeout=PATIENCE)
        client.request("GET", "/metrics?x=1")
        answer = client.getresponse()
        assert answer.status == 200
        assert (answer.headers["Content-Type"] or "").startswith("text/plain")
        assert b"segue_up 1.0" in answer.read()
        client.close()
        client.request("GET", "/other")
        assert client.getresponse().status == 404
        client.close()


def test_a_unix_socket_answers_and_goes(tmp_path: Path) -> None:
    """Its name is removed at the end."""
    path = tmp_path / "metrics"
    with served(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as file:
            assert b"segue_up 1.0" in file.read()
    assert not path.exists()


def test_a_file_is_replaced_as_a_whole_and_goes(tmp_path: Path) -> None:
    """What nobody renews would be taken for the present."""
    made = exporter(ExportTarget(f"{tmp_path}/segue.prom", textfile=True), one_family)
    assert isinstance(made, serving._TextFile)
    made.write()
    assert "segue_up 1.0" in (tmp_path / "segue.prom").read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["segue.prom"]
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_others_may_write_into_is_not_used(tmp_path: Path) -> None:
    """They could put a link there."""
    tmp_path.chmod(0o777)
    made = exporter(ExportTarget(f"{tmp_path}/segue.prom", textfile=True), one_family)
    assert isinstance(made, serving._TextFile)
    with pytest.raises(UsageError, match="its group or others may write"):
        made.write()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("unix:", "names no file"),
        ("textfile:", "names no file"),
        ("localhost:metrics", "is not an address"),
        ("example.com:9464", "is not an address"),
    ],
)
def test_a_wrong_target_is_refused(target: str, said: str) -> None:
    """One sentence that shows it."""
    with pytest.raises(UsageError, match=said):
        exporter(ExportTarget.parse(target), one_family)


@pytest.mark.root
def test_an_address_in_use_is_an_error_of_the_kernel(netns: int) -> None:
    """It names the address."""
    with socket.create_server(("127.0.0.1", 9464)), pytest.raises(KernelError, match="9464"):
        exporter(ExportTarget.parse("127.0.0.1:9464"), one_family)
