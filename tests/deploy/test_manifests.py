"""The files for Compose and Kubernetes: valid, and their limits and rights fit what they start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import hcl2
import kubernetes_validate
import pytest
import yaml
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    capabilities,
    container,
    named,
    objects,
    pod,
    settings,
)

from segue.cli.attach import attach
from segue.cli.restart import restart
from segue.install import units

# Both ends of what they are for: the oldest that knows a preStop sleep and AppArmor fields.
VERSIONS = ("1.30", "1.34")
COMPOSE = DEPLOY / "container" / "compose.yaml"
ON_THE_NODE = (("DaemonSet", "edge"), ("DaemonSet", "edge-segue"))


def bounded(of: object) -> set[str]:
    """What these settings need, without the prefix."""
    return {one.removeprefix("CAP_") for one in units.capabilities(of)}  # type: ignore[arg-type]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_word(path: Path, version: str) -> None:
    """By its own schemas, in which no unknown field is allowed."""
    for one in objects(path):
        kubernetes_validate.validate(one, version, strict=True)


def test_compose_knows_every_word() -> None:
    """By the schema of its specification."""
    words = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)


def test_a_pod_has_stopped_before_it_is_killed() -> None:
    """The grace period is longer than the limit of Segue, and that is longer than the timeouts."""
    web = container("Deployment", "web")
    of = settings([*web["command"], *web["args"]])
    assert "preStop" not in web.get("lifecycle", {})
    assert pod("Deployment", "web")["terminationGracePeriodSeconds"] == of.stop_limit + 1
    assert of.stop_delay + of.drain_timeout + of.stop_timeout <= of.stop_limit
    probe = web["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < of.stop_delay


def test_compose_waits_longer_than_segue() -> None:
    """By a second, and the container's process 1 is segue."""
    web = yaml.safe_load(COMPOSE.read_text())["services"]["web"]
    of = settings([*web["entrypoint"], "uvicorn"])
    assert float(web["stop_grace_period"].removesuffix("s")) == of.stop_limit + 1
    assert web["init"] is False


def test_a_pod_of_the_edge_has_time_for_what_it_waits_for() -> None:
    """preStop, nginx's own limit, and five seconds."""
    edge = container("DaemonSet", "edge")
    conf = named("ConfigMap", "edge")["data"]["nginx.conf"]
    own = float(conf.partition("worker_shutdown_timeout ")[2].partition("s;")[0])
    sleep = edge["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod("DaemonSet", "edge")["terminationGracePeriodSeconds"] == sleep + own + 5


def test_capabilities_are_those_that_the_settings_need() -> None:
    """Of the Deployment and of Compose: none is missing, none is too many."""
    web = container("Deployment", "web")
    assert capabilities(web) == bounded(settings([*web["command"], *web["args"]]))
    of = yaml.safe_load(COMPOSE.read_text())["services"]["web"]
    assert of["cap_drop"] == ["ALL"]
    assert set(of["cap_add"]) == bounded(settings([*of["entrypoint"], "uvicorn"]))
    assert capabilities(container("DaemonSet", "edge")) == set()


def test_the_new_pod_may_run_beside_the_old_one() -> None:
    """A port that is declared is the node's, for one pod; maxSurge alone would wait for ever."""
    for kind, name in ON_THE_NODE:
        assert pod(kind, name)["hostNetwork"] is True
        assert "ports" not in container(kind, name)
    update = named("DaemonSet", "edge")["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}


def test_nobody_asks_a_port_that_two_pods_share() -> None:
    """On the node's network the other pod may answer."""
    edge = container("DaemonSet", "edge")
    probes = [edge[one] for one in edge if one.endswith("Probe")]
    assert probes
    assert all(set(one) & {"httpGet", "tcpSocket", "grpc"} == set() for one in probes)


def test_no_sysctl_is_asked_for() -> None:
    """It is not on the kubelet's safe list, and the program needs none."""
    for path in KUBERNETES:
        assert "sysctls" not in path.read_text()


def test_the_agent_s_command_is_one() -> None:
    """Every option exists, and it waits for the first pod and follows containers."""
    words = container("DaemonSet", "edge-segue")["command"]
    assert words[:2] == ["segue", "attach"]
    with attach.make_context("segue attach", words[2:]) as context:
        given = context.params
    assert (given["wait"], given["generation_by"]) == (True, "unit")
    listens = f"listen {given['address']} reuseport;"
    assert listens in named("ConfigMap", "edge")["data"]["nginx.conf"]


def plain(of: object) -> Any:
    """What hcl2 read, with words instead of what stands in the file for them."""
    if isinstance(of, dict):
        return {plain(key): plain(value) for key, value in of.items()}
    if isinstance(of, list):
        return [plain(one) for one in of]
    return of.strip('"') if isinstance(of, str) else of


def test_a_job_of_nomad_stops_in_time() -> None:
    """Segue's limit is below the time after which Nomad kills, and that is what a client allows."""
    with open(DEPLOY / "nomad" / "web.nomad.hcl", encoding="utf-8") as file:
        (job,) = plain(hcl2.load(file))["job"]
    task = job["web"]["group"][0]["web"]["task"][0]["web"]
    (config,) = task["config"]
    of = settings([*config["entrypoint"], *config["args"]])
    assert of.stop_limit + 1 == float(task["kill_timeout"].removesuffix("s")) == 30
    (template,) = task["template"]
    assert of.env_file == f"/{template['destination']}"
    (script,) = template["change_script"]
    with restart.make_context("segue restart", script["args"][1:]) as context:
        assert context.params["name"] == of.name
