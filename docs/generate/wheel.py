"""Has the wheel carry the man pages: a build hook of hatchling (``pyproject.toml`` names it).

They are made of the commands of the tree that is built, so they can never be of another version.
"""

from __future__ import annotations

import atexit
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Puts them where pip, and pipx after it, put man pages: ``share/man/man1`` of the prefix."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write them, and name each.  An editable install has none."""
        if version == "editable":
            return
        # A build in isolation has neither in its path; another installed version must not win.
        sys.path[:0] = [f"{self.root}/src", self.root]
        from docs.generate.man import main, pages  # noqa: PLC0415  not before the line above

        made = tempfile.TemporaryDirectory(prefix="segue-man-")
        atexit.register(made.cleanup)  # hatchling copies them after this
        main(made.name)
        for name in pages():
            where = str(Path(made.name, name))
            build_data["shared_data"][where] = f"share/man/man1/{name}"
