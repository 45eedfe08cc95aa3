"""A sample as lines for a terminal of some width and height.

What matters most comes first, so that what does not fit is what matters least.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus
from segue.supervisor.lifecycle.chronicle import Event
from segue.visible import visible
from segue.watch.sample import Rates, Sample

# Pieces of text, each with the style that it is drawn in, as rich names styles.
Line: TypeAlias = tuple[tuple[str, str], ...]

_STAGES = {"serving": "green", "draining": "yellow", "starting": "cyan", "standby": "cyan"}
_BAR = "▏▎▍▌▋▊▉█"
_BAR_WIDTH = 8
_NARROW = 96  # columns; below, what a process is called is left out
_EVENTS = 3  # lines that the latest events have at least, where there is room
_COLUMNS = ("worker", "stage", "share", "queue", "", "held", "new/s", "moved here", "pid")
_RIGHT = {"share", "queue", "held", "new/s", "moved here"}


def draw(
    now: Sample,
    speeds: Rates,
    width: int,
    height: int,
    mark: str = "",
    *,
    ascii_only: bool = False,
) -> list[Line]:
    """At most ``height`` lines of at most ``width`` columns; ``mark`` begins the first one."""
    top = [((mark, ""), *_title(now))]
    if now.status is None:
        return _fitted([*top, _line(now.error, "red")], width)
    status = now.status
    top += [_line(text, style) for text, style in _notices(status)]
    totals = _totals(status, speeds)
    room = max(1, height - len(top) - len(totals) - len(status.fronts) - 1 - 1 - _EVENTS)
    table = _table(status, speeds.workers, room, width, ascii_only=ascii_only)
    lines = [*top, *table, *(_front(front) for front in status.fronts), *totals]
    left = height - len(lines) - 1
    if now.events and left > 0:
        lines += [(), *(_event(event) for event in now.events[-left:])]
    return _fitted(lines[:height], width)


def as_text(lines: Sequence[Line]) -> Text:
    """The same for a printer."""
    return Text("\n").join(Text.assemble(*line) for line in lines)


def _fitted(lines: Iterable[Line], width: int) -> list[Line]:
    """The lines in so many columns; one that is too long ends with an ellipsis."""
    found = []
    for line in lines:
        plain = "".join([text for text, _ in line])
        if cell_len(plain) <= width:
            found.append(line)
            continue
        kept, at, pieces = f"{set_cell_size(plain, width - 1)}…", 0, []
        for text, style in line:
            pieces.append((kept[at : at + len(text)], style))
            at += len(text)
        found.append(tuple(pieces))
    return found


def _line(text: str, style: str = "") -> Line:
    return ((visible(text), style),)


def _title(now: Sample) -> Line:
    name, status = (visible(now.name), "bold"), now.status
    if status is None:
        return (name, ("  does not answer", "red"))
    known = [str(one) for one in (status.working, status.newcomer) if one is not None]
    return (
        name,
        (f"  {status.phase}", "green" if status.phase == "serving" else "yellow"),
        (f"  generation {' and '.join(known) or '-'}", ""),
        (f"  engine {status.engine}", "dim"),
        (f"  pid {status.pid}", "dim"),
    )


def _notices(status: Status) -> list[tuple[str, str]]:
    """What there is to notice, most important first."""
    found = [
        (status.outage, "bold red"),
        (status.failure, "red"),
        (f"a restart waits {status.queued}" if status.queued else "", "yellow"),
        (status.progress, "yellow"),
    ]
    for one in status.workers:
        if one.stalled is None and not (one.hangs or one.failing or one.outgoing or one.missing):
            continue
        name = f"worker {one.generation}.{one.id}"
        if one.stalled is not None:
            found.append((f"{name} has accepted nothing for {one.stalled:.1f} s", "yellow"))
        for text, style in (
            (f"{name}: {one.hangs}" if one.hangs else "", "red"),
            (f"{name} is unwell: {one.failing}" if one.failing else "", "red"),
            (f"{name} is replaced: {one.outgoing}" if one.outgoing else "", "yellow"),
            (f"{name} is not ready: {one.missing}" if one.missing else "", "cyan"),
        ):
            found.append((text, style))
    return [(text, style) for text, style in found if text]


def _table(
    status: Status, new: Mapping[int, float], room: int, width: int, *, ascii_only: bool
) -> list[Line]:
    """The heading and a row for each worker; if they are too many, those of least interest go."""
    workers, shown = status.workers, status.workers
    if len(workers) > room:
        workers = tuple(sorted(workers, key=_interest))
        shown = workers[: max(1, room - 1)]
    shown = tuple(sorted(shown, key=lambda one: (one.generation, one.id)))
    most = max((one.queue for one in status.workers), default=0)
    rows = [
        _COLUMNS,
        *(_row(one, new.get(one.id), most, width, ascii_only=ascii_only) for one in shown),
    ]
    widths = tuple([max(map(len, column)) for column in zip(*rows, strict=True)])
    stages = [None, *(one.stage for one in shown)]
    lines = [_cells(row, widths, stage) for row, stage in zip(rows, stages, strict=True)]
    if len(shown) < len(workers):
        left = workers[len(shown) :]
        waiting = sum(one.queue for one in left)
        more = f"and {len(left)} more workers, where {waiting} connections wait"
        lines.append(_line(more, "dim"))
    return lines


@lru_cache(2048)  # at each look most rows are those of the look before
def _cells(row: tuple[str, ...], widths: tuple[int, ...], stage: str | None) -> Line:
    """A row of the table; without a stage, the heading."""
    pieces: list[tuple[str, str]] = []
    for column, cell, wide in zip(_COLUMNS, row, widths, strict=True):
        text = cell.rjust(wide) if column in _RIGHT else cell
        text = text if column == _COLUMNS[-1] else f"{text.ljust(wide)}  "
        style = _style(column, stage) if text.strip() or stage is None else ""
        if pieces and pieces[-1][1] == style:
            text = pieces.pop()[0] + text
        pieces.append((text, style))
    return tuple(pieces)


def _style(column: str, stage: str | None) -> str:
    if stage is None or column == "pid":
        return "dim"
    if column == "stage":
        return _STAGES.get(stage, "red")
    return "yellow" if column == "" else ""


def _interest(one: WorkerStatus) -> tuple[bool, bool, int, int]:
    calm = one.stage == "serving" and one.stalled is None and not one.hangs and not one.failing
    return (calm, not one.queue, -one.queue, one.id)


def _row(
    one: WorkerStatus, new: float | None, most: int, width: int, *, ascii_only: bool
) -> tuple[str, ...]:
    command = f" {visible(one.command)}" if one.command and width >= _NARROW else ""
    return (
        f"{one.generation}.{one.id}",
        visible(one.stage),
        f"{one.share:g} %" if one.share else "-",
        str(one.queue),
        bar(one.queue, most, ascii_only=ascii_only),
        "?" if one.connections is None else str(one.connections),
        "" if new is None else f"{new:.0f}",
        str(one.migrated),
        f"{one.pid}{command}",
    )


def bar(value: int, most: int, *, ascii_only: bool = False) -> str:
    """A bar for this value, as wide as possible for the largest one."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(value * _BAR_WIDTH * 8 / most))
    whole, rest = divmod(eighths, 8)
    if ascii_only:
        return "#" * max(1, round(eighths / 8))
    return _BAR[-1] * whole + (_BAR[rest - 1] if rest else "")


def _front(front: FrontStatus) -> Line:
    return (
        (visible(front.address), "bold"),
        (f"  {front.listeners} listeners, {front.half_open} half-open", ""),
        (f", program put back {front.restored} times" if front.restored else "", "red"),
        (f", {len(front.strangers)} of others" if front.strangers else "", "yellow"),
    )


def _totals(status: Status, found: Rates) -> list[Line]:
    speeds = [
        f"{rate:,.0f} {what}"
        for rate, what in (
            (found.new, "new"),
            (found.migrated, "migrated"),
            (found.by_hash, "by the kernel's hash"),
        )
        if rate is not None and (rate or what == "new")
    ]
    lines = [_line(f"a second: {', '.join(speeds)}")] if speeds else []
    fates = [(f"so far: {status.moved:,} moved, {status.rescued:,} rescued", "")]
    if status.carry != "off":
        fates.append((f", {status.carried:,} carried ({status.carry})", ""))
    for count, what in ((status.cut, "cut"), (status.carry_lost, "lost in a carry")):
        fates += [(", ", ""), (f"{count:,} {what}", "red" if count else "")]
    return [*lines, tuple(fates)]


def _event(event: Event) -> Line:
    style = "red" if event.failed or event.kind in {"crash", "kill"} else ""
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    line = [(when, "dim"), ("  ", ""), (visible(event.what), style)]
    result = event.result or ("under way" if event.kind == "restart" else "")
    if result:
        line.append(
            (f": {visible(result)}", style or ("green" if result == "served" else "yellow"))
        )
    if event.took:
        line.append((f" {event.took:.2f} s", "dim"))
    if event.counts:
        counts = ", ".join(f"{count:,} {visible(name)}" for name, count in event.counts.items())
        line.append((f" ({counts})", "dim"))
    if event.why:
        line.append((f": {visible(event.why)}", "dim"))
    return tuple(line)
