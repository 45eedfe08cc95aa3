"""What is in deploy/, as values, for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segue.cli.run import read
from segue.cli.run import run as run_command
from segue.supervisor.settings import Settings

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))

Object = dict[str, Any]


def objects(path: Path) -> list[Object]:
    """All of one file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def named(kind: str, name: str) -> Object:
    """The only one of Kubernetes with this name."""
    everything = (one for path in KUBERNETES for one in objects(path))
    (found,) = (one for one in everything if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pod(kind: str, name: str) -> Object:
    """What the pods of it are made of."""
    found: Object = named(kind, name)["spec"]["template"]["spec"]
    return found


def container(kind: str, name: str) -> Object:
    """The only container of its pods."""
    (found,) = pod(kind, name)["containers"]
    one: Object = found
    return one


def settings(words: Sequence[str]) -> Settings:
    """What ``segue run`` makes of this command line."""
    assert tuple(words[:2]) == ("segue", "run")
    with run_command.make_context("segue run", list(words[2:])) as context:
        given = dict(context.params)
        config = given.pop("config")
        given.pop("check")
        return read(config, given, "/srv")[0]


def capabilities(of: Object) -> set[str]:
    """Those that a container adds, after it has dropped all."""
    given = of["securityContext"]["capabilities"]
    assert given["drop"] == ["ALL"]
    return set(given.get("add", ()))
