"""The alert rules and the dashboard name metrics and labels that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from segue.metrics.table import METRICS

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "segue.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "segue.json"
EXPOSED = {one.exposed: one for one in METRICS}
LABELS = {label for one in METRICS for label in one.labels} | {"instance", "severity"}


def named(text: str) -> list[tuple[str, str]]:
    """Each metric in an expression, with its matchers."""
    return re.findall(r"\b(segue_[a-z_]+)(?:\{([^}]*)\})?", text)


def expressions(plain: Any) -> list[str]:
    """Every query of the dashboard."""
    if isinstance(plain, dict):
        own = [str(plain[key]) for key in ("expr", "query") if key in plain]
        return own + [one for value in plain.values() for one in expressions(value)]
    return [one for value in plain for one in expressions(value)] if isinstance(plain, list) else []


def check(text: str) -> int:
    """How many metrics it names; each is there, and has the labels that it is asked by."""
    found = named(text)
    for name, matchers in found:
        assert name in EXPOSED, name
        for label in re.findall(r"([a-z_]+)\s*[=!]", matchers):
            assert label in {*EXPOSED[name].labels, "instance"}, f"{name} has no label {label}"
    return len(found)


def test_the_rules_name_metrics_that_there_are() -> None:
    """Each rule has an expression over one of them."""
    assert check(RULES.read_text()) == RULES.read_text().count("- alert:")


def test_the_dashboard_names_metrics_that_there_are() -> None:
    """Its panels do not overlap, and each asks for something."""
    board = json.loads(DASHBOARD.read_text())
    assert sum(check(one) for one in expressions(board)) > len(board["panels"])
    assert all(expressions(panel) for panel in board["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_labels_in_words_are_labels() -> None:
    """What an alert or a legend prints."""
    for text in (RULES.read_text(), DASHBOARD.read_text()):
        for label in re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text):
            assert label in LABELS, label


# Not by the mark: promtool comes with a server that nobody needs for the other tests.
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_promtool_accepts_the_rules_and_each_fires() -> None:
    """By the cases in segue.test.yml."""
    for command in (("check", "rules", "segue.rules.yml"), ("test", "rules", "segue.test.yml")):
        ended = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
