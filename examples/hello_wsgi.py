"""The smallest WSGI application.  Its answer names the process and the generation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:  # noqa: ARG001
    """Answer 200 to every request."""
    pid, generation = os.getpid(), os.environ.get("SEGUE_GENERATION")
    body = f"hello from process {pid}"
    headers = [("Content-Type", "text/plain"), ("X-Pid", str(pid))]
    if generation:
        headers.append(("X-Generation", generation))
        body += f", generation {generation}"
    data = f"{body}\n".encode()
    start_response("200 OK", [*headers, ("Content-Length", str(len(data)))])
    return [data]
