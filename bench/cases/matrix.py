"""Every server under the engines that need no eBPF: restarts under load."""

from __future__ import annotations

from bench.case import FAULTS, Case, Tally
from bench.cases.restart import restarts
from bench.harness import Load, Segue, free_port
from bench.rounds import told
from bench.servers import kinds
from bench.table import LOAD, Column, Row
from segue.engine.select import SYSCTL
from segue.linux import sysctl


def measure(
    *, restart: int = 3, clients: int = 16, engines: str = "drain,hash", servers: str = ""
) -> list[Row]:
    """One run for each pair; ``servers`` are those of bench.servers, all of them when empty."""
    tally = Tally()
    for name in servers.split(",") if servers else kinds():
        for engine in engines.split(","):
            kind = kinds()[name]
            row = f"{name}, engine {engine}"
            tally.expect(row, claims_none=True)
            try:
                if engine == "hash":
                    sysctl.write(SYSCTL, "1")
                with Segue(
                    list(kind.command),
                    free_port(),
                    engine=engine,
                    workers=kind.workers,
                    more=kind.more,
                ) as server:
                    tally.expect(row, command=server.shown, claims_none=True)
                    load = Load(server.port, "--concurrency", str(clients))
                    sample = restarts(server, load, restart, 0.3)
            except FAULTS as error:
                tally.failed(row, error)
                continue
            finally:
                if engine == "hash":
                    sysctl.write(SYSCTL, "0")
            told(row, sample)
            tally.add(row, sample)
    return tally.rows()


CASE = Case(
    "matrix",
    "Every server, the other engines",
    "16 clients in a closed loop, a new connection for each request; three restarts of `segue run`"
    " under each engine, one run each. The engine `migrate` is that of the tables above.",
    measure,
    (*LOAD, Column("restart_s", "s a restart", digits=2)),
    quick={"restart": 1},
)
