"""nginx and HAProxy: configurations, and their own reload."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.harness import Hup, Segue


class Reloaded(Hup):
    """A proxy that reads its configuration again; ``write(n)`` writes that of the nth reload."""

    def __init__(
        self,
        argv: list[str],
        port: int,
        directory: Path,
        write: Callable[[int], None],
        *,
        host: str,
        tls: bool = False,
        by: signal.Signals = signal.SIGHUP,
    ) -> None:
        self.restarted_by, self._directory = by, directory
        self._write, self._reloads = write, 0
        write(0)
        super().__init__(argv, port, host=host, tls=tls)
        self.shown = self.shown.replace(str(directory), ".")

    def restart(self) -> float:
        """As in Hup."""
        self._reloads += 1
        self._write(self._reloads)
        return super().restart()

    def stop(self) -> None:
        """As in Server, and its directory is removed."""
        super().stop()
        shutil.rmtree(self._directory, ignore_errors=True)


class SegueOver(Segue):
    """``segue run`` over a proxy whose configuration lies in a directory of its own."""

    def __init__(
        self,
        command: list[str],
        port: int,
        directory: Path,
        *,
        host: str,
        more: tuple[str, ...],
        tls: bool = False,
        workers: int = 2,
    ) -> None:
        self._configured = directory
        super().__init__(
            command, port, engine="migrate", workers=workers, more=more, host=host, tls=tls
        )
        self.shown = self.shown.replace(str(directory), ".")

    def stop(self) -> None:
        """As in Segue, and the proxy's directory is removed."""
        super().stop()
        shutil.rmtree(self._configured, ignore_errors=True)


def directory() -> Path:
    """For one configuration; whoever starts the proxy removes it."""
    return Path(tempfile.mkdtemp(prefix="segue-bench-"))


def nginx(where: Path, host: str, port: int, *, workers: int, listen: str = "") -> None:
    """``listen`` is what follows the address: "reuseport", "ssl" or both."""
    paths = "".join(
        f"    {name}_temp_path {where}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    tls = (
        f"        ssl_certificate {where}/cert.pem;\n        ssl_certificate_key {where}/key.pem;\n"
        if "ssl" in listen
        else ""
    )
    (where / "nginx.conf").write_text(
        f"daemon off;\nworker_processes {workers};\npid {where}/pid;\nerror_log stderr error;\n"
        "events { worker_connections 4096; }\n"
        f"http {{\n    access_log off;\n{paths}"
        f"    server {{\n        listen {host}:{port} {listen};\n{tls}"
        '        location / { return 200 "hello\\n"; }\n    }\n}\n'
    )


def haproxy(where: Path, bind: str, *, tls: bool = False) -> None:
    """``bind`` is HOST:PORT or fd@NUMBER."""
    if tls:
        # HAProxy reads the certificate and its key from one file.
        pair = (where / "cert.pem").read_text() + (where / "key.pem").read_text()
        (where / "pair.pem").write_text(pair)
        bind += f" ssl crt {where}/pair.pem"
    (where / "haproxy.cfg").write_text(
        "global\n    maxconn 4000\n    nbthread 2\n"
        "defaults\n    mode http\n    timeout client 30s\n    timeout server 30s\n"
        "    timeout connect 5s\n    timeout http-keep-alive 30s\n"
        f"frontend hello\n    bind {bind}\n"
        '    http-request return status 200 content-type text/plain string "hello\\n"\n'
    )


def haproxy_before(where: Path, bind: str, ports: Sequence[int], how: str) -> None:
    """In front of workers on loopback, to which it gives connections by ``balance`` HOW."""
    (where / "haproxy.cfg").write_text(
        "global\n    maxconn 4000\n    nbthread 2\n"
        "defaults\n    mode http\n    timeout client 30s\n    timeout server 30s\n"
        "    timeout connect 5s\n"
        f"frontend all\n    bind {bind}\n    default_backend workers\n"
        f"backend workers\n    balance {how}\n"
        + "".join(f"    server w{port} 127.0.0.1:{port}\n" for port in ports)
    )


def nginx_argv(where: Path) -> list[str]:
    """In the foreground, since the configuration says so."""
    return ["nginx", "-p", str(where), "-e", "stderr", "-c", str(where / "nginx.conf")]


def haproxy_argv(where: Path, *more: str) -> list[str]:
    """In the foreground; with "-W" a master above its worker."""
    return ["haproxy", *more, "-db", "-f", str(where / "haproxy.cfg")]
