"""The DaemonSets of deploy/kubernetes, updated: pods in namespaces of their own on one network.

What runs is what the manifests say: nginx with that configuration, and the agent's command with
those capabilities and no others.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from bench.pods import Group, Pods
from bench.thinking import Thinking
from tests.deploy.manifests import capabilities, container, named
from tests.supervisor.attaching import Attach
from tests.waiting import wait_until

from segue.address import Address

pytestmark = [
    pytest.mark.root,
    pytest.mark.kernel("6.9"),
    pytest.mark.usefixtures("netns"),
    *(pytest.mark.program(one) for one in ("unshare", "setpriv", "nginx", "mount")),
]
HOST, PORT, LISTENERS = "127.0.0.1", 8080, 2


def without_rights(*kept: str) -> tuple[str, ...]:
    """The beginning of a command that has these capabilities at most."""
    bounded = ",".join(f"+{one.lower()}" for one in kept)
    return ("setpriv", "--no-new-privs", "--bounding-set", f"-all,{bounded}".rstrip(","))


def pods() -> Pods:
    """Those of the DaemonSet, with what it mounts."""
    conf = named("ConfigMap", "edge")["data"]["nginx.conf"]
    words = container("DaemonSet", "edge")["command"]
    started = [word.replace("/etc/edge/", "/tmp/") for word in words]
    # An own /tmp, which is the manifest's volume, with the file in it.
    mounts = 'mount -t tmpfs tmpfs /tmp && printf %s "$1" >/tmp/nginx.conf && shift && exec "$@"'
    user = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
    return Pods(
        ["sh", "-c", mounts, "sh", conf, *without_rights(), *user, *started],
        PORT, host=HOST, listeners=LISTENERS, pre_stop=0, stop=signal.SIGQUIT,
    )  # fmt: skip


def agent(group: Group, directory: Path, bpffs: str) -> Attach:
    """That of the other DaemonSet, in a control group as a container's."""
    of = container("DaemonSet", "edge-segue")
    address, *flags = of["command"][2:]
    return Attach(
        directory, bpffs, *(one for one in flags if not one.startswith("--name=")),
        address=Address.parse(address),
        before=(*group.confined(), *without_rights(*capabilities(of))),
    )  # fmt: skip


def test_an_update_of_the_edge_loses_nothing_and_closes_nothing(
    tmp_path: Path, bpf_directory: str
) -> None:
    """Three updates under clients that keep their connections: none is lost, none made again."""
    with pods() as edge:
        group = Group(edge.above)
        try:
            with agent(group, tmp_path, bpf_directory) as one:
                one.wait_attached(LISTENERS)
                with Thinking(HOST, PORT, 20, 0.2) as clients:
                    for number in range(3):
                        update(edge, one, number + 1)
                    found = clients.stop()
                assert (found.lost.total(), found.reconnected) == (0, 0), (found.lost, one.said())
                assert one.status()["carried"] == 3 * 20
                assert "cannot" not in one.said()
        finally:
            group.remove()


def update(edge: Pods, agent: Attach, old: int) -> None:
    """A new pod beside the old one; the old one's end, once nothing is there any more."""
    edge.surge()
    agent.wait_share(old + 1, 100.0)

    def left() -> int:
        workers = agent.status()["workers"]
        return sum(one["connections"] for one in workers if one["generation"] == old)

    wait_until(lambda: not left(), f"nothing kept in generation {old}\n{agent.said()}")
    edge.end_oldest()
