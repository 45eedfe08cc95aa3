"""A sample as lines for a terminal of some width and height.

What matters most comes first, so that what does not fit is what matters least.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from segue.supervisor.control.status import FrontStatus, Status, WorkerStatus
from segue.supervisor.lifecycle.chronicle import Event
from segue.visible import visible
from segue.watch.sample import Rates, Sample, rates, worker_rates

_STAGES = {"serving": "green", "draining": "yellow", "starting": "cyan", "standby": "cyan"}
_BAR = "▏▎▍▌▋▊▉█"
_BAR_WIDTH = 8
_NARROW = 96  # columns; below, what a process is called is left out
_EVENTS = 3  # lines that the latest events have at least, where there is room
_COLUMNS = ("worker", "stage", "share", "queue", "", "held", "new/s", "moved here", "pid")


def draw(
    now: Sample, before: Sample | None, width: int, height: int, *, ascii_only: bool = False
) -> Text:
    """At most ``height`` lines of at most ``width`` columns."""
    top = [_title(now)]
    if now.status is None:
        return _joined([*top, _line(now.error, "red")], width)
    status = now.status
    top += [_line(text, style) for text, style in _notices(status)]
    totals = _totals(status, rates(now, before))
    room = max(1, height - len(top) - len(totals) - len(status.fronts) - 1 - 1 - _EVENTS)
    table = _table(status, worker_rates(now, before), room, width, ascii_only=ascii_only)
    lines = [*top, *table, *(_front(front) for front in status.fronts), *totals]
    left = height - len(lines) - 1
    if now.events and left > 0:
        lines += [Text(), *(_event(event) for event in now.events[-left:])]
    return _joined(lines[:height], width)


def _joined(lines: Sequence[Text], width: int) -> Text:
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _line(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _title(now: Sample) -> Text:
    title = Text.assemble((visible(now.name), "bold"))
    status = now.status
    if status is None:
        title.append("  does not answer", "red")
        return title
    known = [str(one) for one in (status.working, status.newcomer) if one is not None]
    title.append(f"  {status.phase}", "green" if status.phase == "serving" else "yellow")
    title.append(f"  generation {' and '.join(known) or '-'}")
    title.append(f"  engine {status.engine}", "dim")
    title.append(f"  pid {status.pid}", "dim")
    return title


def _notices(status: Status) -> list[tuple[str, str]]:
    """What there is to notice, most important first."""
    found = [
        (status.outage, "bold red"),
        (status.failure, "red"),
        (f"a restart waits {status.queued}" if status.queued else "", "yellow"),
        (status.progress, "yellow"),
    ]
    for one in status.workers:
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
    status: Status, new: dict[int, float], room: int, width: int, *, ascii_only: bool
) -> list[Text]:
    """The heading and a row for each worker; if they are too many, those of least interest go."""
    workers = sorted(status.workers, key=_interest)
    shown = workers if len(workers) <= room else workers[: max(1, room - 1)]
    shown.sort(key=lambda one: (one.generation, one.id))
    most = max((one.queue for one in status.workers), default=0)
    rows = [
        _COLUMNS,
        *(_row(one, new.get(one.id), most, width, ascii_only=ascii_only) for one in shown),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = []
    for row, of in zip(rows, [None, *shown], strict=True):
        line = Text()
        for at, (cell, wide) in enumerate(zip(row, widths, strict=True)):
            last = at == len(row) - 1
            right = _COLUMNS[at] in {"share", "queue", "held", "new/s", "moved here"}
            text = cell.rjust(wide) if right else cell if last else cell.ljust(wide)
            line.append(text + ("" if last else "  "), _cell_style(of, _COLUMNS[at]))
        lines.append(line)
    if len(shown) < len(workers):
        left = workers[len(shown) :]
        waiting = sum(one.queue for one in left)
        more = f"and {len(left)} more workers, where {waiting} connections wait"
        lines.append(_line(more, "dim"))
    return lines


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


def _cell_style(of: WorkerStatus | None, column: str) -> str:
    if of is None or column == "pid":
        return "dim"
    if column == "stage":
        return _STAGES.get(of.stage, "red")
    return "yellow" if column == "" else ""


def bar(value: int, most: int, *, ascii_only: bool = False) -> str:
    """A bar for this value, as wide as possible for the largest one."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(value * _BAR_WIDTH * 8 / most))
    whole, rest = divmod(eighths, 8)
    if ascii_only:
        return "#" * max(1, round(eighths / 8))
    return _BAR[-1] * whole + (_BAR[rest - 1] if rest else "")


def _front(front: FrontStatus) -> Text:
    line = Text(visible(front.address), style="bold")
    line.append(f"  {front.listeners} listeners, {front.half_open} half-open", "not bold")
    if front.restored:
        line.append(f", program put back {front.restored} times", "not bold red")
    if front.strangers:
        line.append(f", {len(front.strangers)} of others", "not bold yellow")
    return line


def _totals(status: Status, found: Rates) -> list[Text]:
    speeds = [
        f"{rate:,.0f} {what}"
        for rate, what in (
            (found.new, "new"),
            (found.migrated, "migrated"),
            (found.by_hash, "by the kernel's hash"),
        )
        if rate is not None and (rate or what == "new")
    ]
    lines = [Text(f"a second: {', '.join(speeds)}")] if speeds else []
    fates = Text(f"so far: {status.moved:,} moved, {status.rescued:,} rescued")
    if status.carry != "off":
        fates.append(f", {status.carried:,} carried ({status.carry})")
    for count, what in ((status.cut, "cut"), (status.carry_lost, "lost in a carry")):
        fates.append(", ").append(f"{count:,} {what}", "red" if count else "")
    return [*lines, fates]


def _event(event: Event) -> Text:
    style = "red" if event.failed or event.kind in {"crash", "kill"} else ""
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    line = Text.assemble((when, "dim"), "  ", (visible(event.what), style))
    result = event.result or ("under way" if event.kind == "restart" else "")
    if result:
        line.append(f": {visible(result)}", style or ("green" if result == "served" else "yellow"))
    if event.took:
        line.append(f" {event.took:.2f} s", "dim")
    if event.counts:
        counts = ", ".join(f"{count:,} {visible(name)}" for name, count in event.counts.items())
        line.append(f" ({counts})", "dim")
    if event.why:
        line.append(f": {visible(event.why)}", "dim")
    return line
