"""The sequence diagram of a story: what stands beside what, and where the first difference is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import StringIO

import pytest
from rich.console import Console

from segue.errors import UsageError
from segue.lab.diagram import Diagram, DiagramRow, Kind, diagram, svg, text
from segue.lab.replay import replay
from segue.lab.sides import ModelSide

ONE = ["listen A", "syn c", "  c < SYN ACK seq +0 ack +1", "accept A x", "  = EAGAIN", "counted {}"]
OTHER = ["listen A", "syn c", "accept A x", "  = EAGAIN", "counted {'ListenDrops': 1}"]


def shown(what: Diagram) -> list[str]:
    printed = StringIO()
    Console(file=printed, width=140).print(text(what))
    return printed.getvalue().splitlines()


def test_steps_and_answers_stand_beside_each_other() -> None:
    """A packet of one side alone leaves the other's cell empty, and what follows is still level."""
    made = diagram("drops", ONE, OTHER)
    assert made.rows == (
        DiagramRow(Kind.CALL, "listen A", "listen A"),
        DiagramRow(Kind.ARRIVES, "syn c", "syn c"),
        DiagramRow(Kind.SENT, "c: SYN ACK seq +0 ack +1", None),
        DiagramRow(Kind.CALL, "accept A x", "accept A x"),
        DiagramRow(Kind.ANSWER, "= EAGAIN", "= EAGAIN"),
        DiagramRow(Kind.COUNTED, "counted {}", "counted {'ListenDrops': 1}"),
    )
    assert made.first_difference == 2


def test_only_the_first_difference_is_marked() -> None:
    """What follows may be its consequence."""
    (marked,) = [line for line in shown(diagram("drops", ONE, OTHER)) if "≠" in line]
    assert "SYN ACK" in marked


def test_replays_that_are_alike_have_no_mark() -> None:
    """Nor a first difference."""
    made = diagram("alike", ONE, ONE)
    assert made.first_difference is None
    assert not any("≠" in line for line in shown(made))
    assert "first difference" not in svg(made)


def test_an_empty_column_says_why() -> None:
    """The model alone is not a difference."""
    made = diagram("alone", None, replay("listen A\n syn c", ModelSide()), "it needs CAP_SYS_ADMIN")
    assert made.first_difference is None
    assert any("not asked: it needs CAP_SYS_ADMIN" in line for line in shown(made))
    assert "not asked: it needs CAP_SYS_ADMIN" in svg(made)


def test_the_picture_is_xml_with_an_arrow_for_each_segment() -> None:
    """Names that XML would take for markup are text."""
    root = ET.fromstring(svg(diagram("a < b & c", ONE, OTHER)))
    words = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b & c" in words
    assert words.count("≠ first difference") == 1
    tips = [
        one for one in root.iter("{http://www.w3.org/2000/svg}line") if "marker-end" in one.attrib
    ]
    assert len(tips) == 3


def test_two_stories_are_no_comparison() -> None:
    """The steps must be the same."""
    with pytest.raises(UsageError, match="two stories"):
        diagram("x", ONE, ["listen B"])
