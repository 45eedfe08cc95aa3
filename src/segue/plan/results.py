"""The results of a sweep on a disk: a line for each, so that a sweep goes on where it was ended.

The first line names the sweep.  A result is there once its line is whole: who is killed while a
line is written loses that one alone.
"""

from __future__ import annotations

import json
import os
from typing import Any

from segue import strict_json
from segue.errors import UsageError
from segue.linux.closing import Closing
from segue.linux.openat import open_to_append


class Results(Closing):
    """Those of one sweep.  Raises UsageError if the file is another's, and OSError."""

    def __init__(self, path: str, digest: str) -> None:
        self.done: dict[int, dict[str, Any]] = {}
        self._file = open_to_append(path, (0, os.geteuid()), 0o600)
        try:
            with open(path, "rb") as file:
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read(path, whole, digest)
            if whole != text:
                os.ftruncate(self._file, len(whole))
            if not whole:
                self._append({"sweep": digest})
        except BaseException:
            self.close()
            raise

    def _read(self, path: str, whole: bytes, digest: str) -> None:
        for number, line in enumerate(whole.splitlines()):
            try:
                found = strict_json.loads(line)
                if number:
                    self.done[int(found["number"])] = found["result"]
                    continue
                theirs = found["sweep"]
            except (KeyError, TypeError, ValueError):
                raise UsageError(
                    f"{path}: line {number + 1} is no result of a sweep: name another file"
                ) from None
            if theirs != digest:
                raise UsageError(f"{path} has the results of another sweep: name another file")

    def add(self, number: int, result: dict[str, Any]) -> None:
        """One more, on the disk when this returns."""
        self._append({"number": number, "result": result})
        self.done[number] = result

    def _append(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; twice is no error."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
