"""What is written down and said of the shares: for the next attach of this name, and for people."""

from __future__ import annotations

from typing import Any

from segue.supervisor import notify
from segue.supervisor.attach.attachment import Attachment
from segue.supervisor.attach.status import parts_of
from segue.supervisor.control.paths import Paths


class Account:
    """Writes and says each thing once, until it is another."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self._written: dict[str, Any] = {}
        self._said = ""

    def changed(self) -> None:
        """The group or its shares have changed.  Raises OSError."""
        self._write_down()
        self._summarize()

    def again(self) -> None:
        """Somebody removed the record: write it anew.  Raises OSError."""
        self._written = {}
        self._write_down()

    def _write_down(self) -> None:
        attachment = self.attachment
        group = attachment.attached.to_json()
        if attachment.over or group == self._written:
            return
        settings = attachment.settings
        record = {
            "address": str(settings.address), "netns": settings.netns, "group": group,
            "program": settings.program, "passing": settings.passing,
        }  # fmt: skip
        attachment.paths.write_record({"attached": record})
        self._written = group

    def _summarize(self) -> None:
        attachment = self.attachment
        text = "; ".join(
            f"generation {number} has {count} listener(s) and {part:.3g} %"
            for number, (count, part) in parts_of(attachment.attached).items()
        )
        if text != self._said:
            self._said = text
            attachment.loop.say(text or f"no process listens at {attachment.settings.address}")
            notify.tell(STATUS=text)


def read(paths: Paths) -> dict[str, Any]:
    """What the last one of this name wrote down; {} where that cannot be read."""
    found = (paths.read_record() or {}).get("attached")
    if not isinstance(found, dict):
        return {}
    group = found.get("group")
    return found if isinstance(group, dict) else {**found, "group": {}}
