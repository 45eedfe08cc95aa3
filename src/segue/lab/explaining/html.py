"""A film as a page that plays it: one file, no network, no library."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files

from segue.lab.explaining import words
from segue.lab.explaining.frames import Film, Frame
from segue.lab.explaining.svg import STYLE
from segue.lab.explaining.text import compared, of_told, rows_in


def html(shown: Film) -> str:
    """The page, as text."""
    film = json.dumps(
        {
            "clients": shown.clients,
            "listeners": shown.listeners,
            "frames": [_frame(shown, index) for index in range(len(shown.frames))],
            "rows": [(row, words.of_row(row)) for row in rows_in(shown)],
        }
    )
    page = files("segue.lab.explaining").joinpath("page.html").read_text("utf-8")
    parts = {
        "TITLE": escape(shown.title),
        "PROSE": escape(shown.prose),
        "COMPARED": escape(compared(shown)),
        "STYLE": STYLE,
        # Within a script nothing may look like its end.
        "FILM": film.replace("<", "\\u003c"),
    }
    # At once: what is put in may look like a place.
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], page)


def _frame(shown: Film, index: int) -> dict[str, object]:
    frame = shown.frames[index]
    return {
        "at": frame.at,
        "step": frame.step,
        "said": frame.said,
        "later": frame.is_later,
        "arrows": [
            {
                "client": one.client,
                "listener": one.listener,
                "label": one.label,
                "detail": one.detail,
                "to": one.to_listener,
            }
            for one in frame.arrows
        ],
        "moves": [
            {
                "client": one.client,
                "source": one.source,
                "target": one.target,
                "sentence": one.sentence,
                "rows": words.of_rows(one.rows),
            }
            for one in frame.moves
        ],
        "notes": frame.notes,
        "after": frame.after,
        "answers": frame.answers,
        "counted": [(name, number, words.COUNTERS[name]) for name, number in frame.counted],
        "listeners": [
            {
                "name": one.name,
                "state": one.state,
                "there": one.is_there,
                "live": one.is_live,
                "room": one.room,
                "queue": one.queue,
                "half_open": one.half_open,
                "counted": one.counted,
                "slots": one.slots,
            }
            for one in frame.listeners
        ],
        "clients": [
            {"name": one.name, "state": one.state, "where": one.where, "accepted": one.accepted_by}
            for one in frame.clients
        ],
        "difference": _difference(shown, index, frame),
    }


def _difference(shown: Film, index: int, frame: Frame) -> list[str]:
    """What the other told, with the last frame of a step."""
    following = shown.frames[index + 1 : index + 2]
    if frame.step not in shown.differing or (following and following[0].step == frame.step):
        return []
    theirs, ours = shown.differing[frame.step]
    return [f"≠ {shown.other}: {of_told(theirs)}", f"model: {of_told(ours)}"]
