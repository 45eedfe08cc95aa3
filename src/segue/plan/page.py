"""A sweep as one page with pictures, which needs no network and no script.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from segue.plan import drawing
from segue.plan.screen import COMPARED, count, differing
from segue.plan.ways import WAYS
from segue.probe.page import POLICY, STYLE, table, wide
from segue.visible import visible

Result = Mapping[str, Any]  # as of segue.plan.sweep.result
# A colour of the page's style for each of those that lines compare.
_KINDS = dict(zip(COMPARED, ("lost0", "lost1", "p50", "good"), strict=True))
# Where several are the same, each shows on both sides of those that are drawn after it.
_WIDTHS = (5.6, 4.2, 2.8, 1.4)
_STYLE = "".join(
    f".line.{kind} {{ fill: none; stroke: var(--{kind}); stroke-width: {width}; }}"
    f" .dot.{kind}, .key.{kind} {{ fill: var(--{kind}); }}\n"
    for kind, width in zip(_KINDS.values(), _WIDTHS, strict=True)
)
_TITLE = "What restarts lose, by each way to empty a listener"
_PICTURES = (
    ("lost", "connections", "Connections that one restart loses"),
    ("configuration_gone_s", "s", "Seconds until nothing is served by the old configuration"),
)
_ROWS = 1000


def page(results: Sequence[Result]) -> str:
    """The whole.  Names and figures come from a file, and are escaped."""
    services = list(dict.fromkeys(one["service"] for one in results))
    simulated = sum(one["simulated"] for one in results)
    about = (
        f"{len(results):,} configurations of {len(services):,} services;"
        f" {simulated:,} connections were simulated"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        POLICY,
        f"<title>{_TITLE}</title><style>{STYLE}{_STYLE}</style></head><body>",
        f"<h1>{_TITLE}</h1>",
        f'<p class="dim">{about}</p>',
        "<h2>Lost a day, all configurations together</h2>",
        wide(drawing.bars("Connections lost a day, by way", _by_way(results))),
    ]
    for service in services:
        parts += _of_service(service, [one for one in results if one["service"] == service])
    parts += ["<h2>Every configuration: lost a day</h2>", *_rows(results), "</body></html>"]
    return "\n".join(parts) + "\n"


def _by_way(results: Sequence[Result]) -> dict[str, tuple[float, str]]:
    sums = {way.name: sum(one["ways"][way.name]["lost_per_day"] for one in results) for way in WAYS}
    return {name: (value, count(value)) for name, value in sums.items()}


def _of_service(service: str, theirs: Sequence[Result]) -> Iterator[str]:
    """Two pictures for each figure that differs: means over all that the others are."""
    figures = differing(theirs)
    yield f"<h2>{escape(visible(service))}</h2>"
    if not figures:
        yield wide(drawing.bars(f"Connections lost a day by {service}", _by_way(theirs)))
    for figure in figures:
        groups: dict[str, list[Result]] = {}
        for one in theirs:
            groups.setdefault(visible(str(one["figures"][figure])), []).append(one)
        for name, unit, title in _PICTURES:
            values = {
                way: (kind, [_mean(some, way, name) for some in groups.values()])
                for way, kind in _KINDS.items()
            }
            said = f"{title}, by {figure}"
            yield f'<p class="dim">{escape(said)}</p>'
            yield wide(drawing.lines(f"{service}: {said}", unit, list(groups), values))


def _mean(some: Sequence[Result], way: str, name: str) -> float:
    return float(sum(one["ways"][way][name] for one in some)) / len(some)


def _rows(results: Sequence[Result]) -> Iterator[str]:
    heads = ("service", "figures", *(way.name for way in WAYS))
    differ = {
        service: differing([one for one in results if one["service"] == service])
        for service in {one["service"] for one in results}
    }
    rows = [
        (
            visible(one["service"]),
            visible(", ".join(f"{name} {one['figures'][name]}" for name in differ[one["service"]])),
            *(count(one["ways"][way.name]["lost_per_day"]) for way in WAYS),
        )
        for one in results[:_ROWS]
    ]
    yield table(heads, rows, set(range(2, len(heads))))
    if len(results) > _ROWS:
        yield f'<p class="note">and {len(results) - _ROWS:,} more: --json has all</p>'
