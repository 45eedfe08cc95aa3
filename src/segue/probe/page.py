"""A report as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from segue.probe.session import Report


def render(report: Report) -> str:
    """The whole page."""
    return f"<!doctype html>{report.target}"
