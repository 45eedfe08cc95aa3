"""An application that takes a second of processor time to import, as large frameworks do."""

from __future__ import annotations

import distributed
import hypothesis
import mkdocs.commands.build
import textual.app
import textual.widgets
from examples import hello

# What it imports is installed with the project's own tools; none of it is used.
IMPORTED = (distributed, hypothesis, mkdocs.commands.build, textual.app, textual.widgets)

app = hello.app
