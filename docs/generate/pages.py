"""The pages that are made from the code: where each is in the site, and what makes it."""

from __future__ import annotations

from collections.abc import Callable

from docs.generate import commands, python, reference

PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/settings.md": reference.settings,
    "reference/exit-codes.md": reference.exit_codes,
    "reference/metrics.md": reference.metrics,
    "reference/protocol.md": reference.protocol,
    "reference/python.md": python.page,
}
