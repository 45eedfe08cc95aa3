"""One server of the catalogue: how it is run under ``segue run``, and how it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field

from bench.harness import BIN

PORT = 8080
HERE = f"127.0.0.1:{PORT}"
_IMPORTS = {"python": ("-c", "import {}"), "node": ("-e", "require('{}')")}


@dataclass(frozen=True, slots=True)
class Entry:
    """The command is what a reader types after ``--``.

    ``needs`` is a module of Python or of node, or another program.  ``files`` are made in the
    directory in which it is started.  ``target`` and ``ask`` are given to ``segue probe``.
    """

    name: str
    command: str
    options: str = ""  # of segue run
    know: str = ""  # traps, for a reader
    needs: str = ""
    files: dict[str, str] = field(default_factory=dict)
    target: str = f"http://{HERE}/"
    ask: tuple[str, ...] = ()
    workers: int = 2

    @property
    def there(self) -> bool:
        """Its program is installed, and what that needs."""
        name = self.command.split()[0]
        found = shutil.which(name, path=search_path())
        if found is None or not self.needs:
            return found is not None
        if name not in _IMPORTS:
            return shutil.which(self.needs, path=search_path()) is not None
        flag, text = _IMPORTS[name]
        argv = [found, flag, text.format(self.needs)]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def search_path() -> str:
    """The path of the shell, then the programs of this environment."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{BIN}"


def spoken(send: bytes, expect: bytes) -> tuple[str, ...]:
    """Options of the probe for a server that speaks no HTTP."""
    given = [(flag, data) for flag, data in (("--send", send), ("--expect", expect)) if data]
    words = [word for flag, data in given for word in (flag, ascii(data)[2:-1])]
    return (*words, "--from", "127.0.0.1")
