"""A story as frames, and the three ways to show them: text, a picture, and a page that plays."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from segue.lab.explaining import words
from segue.lab.explaining.frames import Film, Frame, Other, Told, film, told
from segue.lab.explaining.html import html
from segue.lab.explaining.stands import KEPT, LISTENS, STOPPED
from segue.lab.explaining.svg import svg
from segue.lab.explaining.text import text
from segue.lab.sides import COUNTED, ModelSide
from segue.lab.stories import STORIES, prose
from segue.model.events import Choice, Moved, Occasion, Timer
from segue.model.profile import LINUX, SERIES, Difference, Profile
from segue.model.states import State
from segue.model.timing import EXACT, Late

TIMER = "a handshake migrates at the timer"
SVG = "{http://www.w3.org/2000/svg}"


def shown(name: str, profile: Profile = LINUX) -> Film:
    """The model alone."""
    return film(name, STORIES[name], prose(STORIES[name]), profile)


def at(made: Film, said: str, *, later: bool = False) -> Frame:
    """The frame of the first step that is written so."""
    return next(one for one in made.frames if one.said == said and one.is_later is later)


def lines(made: Film, width: int = 100) -> list[str]:
    return [one.said for one in text(made, width)]


def test_a_migration_at_the_timer_is_a_frame_of_its_own() -> None:
    """With its time, the timer's name, what moves, why, and what stands where afterwards."""
    made = shown(TIMER)
    waits, fires = at(made, "wait 1.5"), at(made, "wait 1.5", later=True)
    assert (waits.moves, waits.arrows) == ((), ())
    assert fires.at == pytest.approx(1.04)
    assert fires.notes == ("the SYN-ACK timer of c fires",)
    (move,) = fires.moves
    assert (move.client, move.source, move.target) == ("c", "A", "B")
    assert move.sentence == (
        "the half-open request of c [NEW_SYN_RECV] moves from A to B, as its SYN-ACK timer fires:"
        " the kernel's hash chose B"
    )
    assert move.rows == ("5/8", "HASH_IS_THE_REQUESTS")
    assert [(one.label, one.listener, one.to_listener) for one in fires.arrows] == [
        ("SYN ACK", "B", False)
    ]
    assert fires.counted[0] == ("TCPMigrateReqSuccess", 1)
    before, after = waits.listeners, fires.listeners
    assert [(one.state, one.half_open) for one in before] == [(KEPT, ("c",)), (LISTENS, ())]
    assert [(one.state, one.half_open) for one in after] == [(STOPPED, ()), (LISTENS, ("c",))]


def test_a_queue_stands_as_it_is() -> None:
    """Oldest first, longer than its room where children have moved, and shorter with accept()."""
    made = shown("children do not respect the backlog of the target")
    moved = at(made, "close A").listeners[1]
    assert (moved.queue, moved.room) == (("c", "d", "e"), 1)
    assert at(made, "accept B x").listeners[1].queue == ("d", "e")
    assert at(made, "accept B x").after == ("x is the connection of c",)
    refused = at(made, "syn f")
    assert refused.notes == ("B drops the segment: its accept queue is full",)
    assert [(one.client, one.listener) for one in refused.arrows] == [("f", "B")]


def test_what_is_counted_at_the_wrong_listener_is_told_where_it_happens() -> None:
    """The count of -1 is in the picture, and the next SYN's fate refers to it."""
    made = shown("a reset where a handshake migrates leaves the target full")
    assert at(made, "rst c").listeners[1].counted == -1
    assert "counted out at B" in at(made, "rst c").notes[0]
    assert "it counts -1" in at(made, "syn d").notes[0]
    assert dict(at(made, "syn d").counted) == {"ListenDrops": 1, "TCPReqQFullDrop": 1}


def test_a_loss_is_a_move_to_nobody() -> None:
    """With its reason and the patch it is about."""
    made = shown("without the switch a queued child is reset")
    (lost,) = at(made, "close A").moves
    assert lost.target == ""
    assert lost.sentence.endswith("migration was off when A stopped, so A has no group")
    assert lost.rows[:2] == ("2/8", "3/8")


def test_the_series_moves_a_queue_at_once() -> None:
    """The neighbour gets it, and nobody wakes; the old listener is kept until accept()."""
    made = shown("a queued child goes to a sibling", SERIES)
    (move,) = at(made, "close A").moves
    assert "neighbour" in move.sentence
    assert at(made, "close A").listeners[0].state == KEPT
    assert at(made, "accept B x").listeners[0].state == STOPPED


def test_a_carry_is_a_move_of_what_was_accepted() -> None:
    """From the listener whose program has it to the queue of another, and back; what is left alone
    moves nowhere.
    """
    made = shown("a connection is carried to and fro")
    carries = [move for one in made.frames for move in one.moves]
    assert [(one.client, one.source, one.target) for one in carries] == [
        ("c", "A", "B"), ("c", "B", "A"), ("c", "A", "B"),
    ]  # fmt: skip
    assert at(made, "carry x").listeners[0].queue == ("c",)
    assert any("═c═" in one for one in lines(made))
    left = shown("what cannot be carried stays")
    assert not any(one.moves for one in left.frames)
    assert at(left, "carry x").answers == ("left alone: an answer is owed",)


def test_a_client_is_followed_to_the_program() -> None:
    """From nothing to half-open, the queue, the program's name, and the listener it came from."""
    made = shown(TIMER)
    told_of = [
        (one.clients[0].state, one.clients[0].where, one.clients[0].accepted_by)
        for one in made.frames
    ]
    assert list(dict.fromkeys(told_of)) == [
        ("", "", ""),
        ("NEW_SYN_RECV", "A", ""),
        ("NEW_SYN_RECV", "B", ""),
        ("ESTABLISHED", "B", ""),
        ("ESTABLISHED", "x", "B"),
    ]


@pytest.mark.parametrize("profile", [LINUX, SERIES], ids=lambda one: one.name)
@pytest.mark.parametrize("name", STORIES)
def test_every_story_can_be_shown(name: str, profile: Profile) -> None:
    """In any width, as a picture and as a page; all that moves has names, a reason and rows."""
    made = shown(name, profile)
    for width in (40, 80, 160):
        assert max(map(len, lines(made, width))) <= width
    ET.fromstring(svg(made))
    assert film_in(html(made))["frames"]
    for frame in made.frames:
        for move in frame.moves:
            assert "?" not in move.sentence
            assert bool(move.rows) != ("is carried" in move.sentence)
        assert not any("?" in note for note in frame.notes)


def test_lanes_and_arrows_in_text() -> None:
    """An arrow ends at the lane of whom it is for; a migration is a double line."""
    made = lines(shown(TIMER), 80)
    head = next(one for one in made if one.split() == ["c", "A", "B"])
    lanes = [head.index(name) + 2 for name in "cAB"]
    syn = next(one for one in made if "─SYN─" in one)
    assert (syn[lanes[0]], syn[lanes[1] - 1 : lanes[1] + 1]) == ("│", "▶│")
    moves = next(one for one in made if "═c═" in one)
    assert (moves[lanes[1]], moves[lanes[2] - 1 : lanes[2] + 1]) == ("┆", "▶│")
    assert any("half-open: c" in one and one.index("half-open") == lanes[1] - 2 for one in made)


def test_many_clients_have_one_lane_together() -> None:
    """Where there is no room for one each; where there is none for listeners, words are left."""
    name = "the series' own test, close, IPv4"
    wide = lines(shown(name), 110)
    assert any(one.startswith("clients ") for one in wide)
    assert any("c00: SYN" in one for one in wide)
    narrow = lines(shown(name), 60)
    assert any("c00 ─SYN─▶" in one for one in narrow)


def other_of(name: str, side: ModelSide | None = None, **changed: tuple[str, ...]) -> Other:
    """What another side told: as the model does but for some steps."""
    steps = [one for _, one in told(STORIES[name], side or ModelSide())]
    other = [Told(one.said, changed.get(one.said.split()[0], one.lines), one.counted)
             for one in steps]  # fmt: skip
    return Other("Linux 9.9", tuple(other))


def test_the_first_difference_is_marked_and_both_are_told() -> None:
    """At its step, in all three; what follows may be its consequence."""
    other = other_of(TIMER, ack=("  c < RST seq +1",), accept=("  = EAGAIN",))
    made = film(TIMER, STORIES[TIMER], "", LINUX, other)
    assert [step for step, _, _ in made.differences] == [6, 7]
    marked = [one for one in lines(made) if "≠" in one and "marked" not in one]
    assert marked == [
        " ≠ Linux 9.9: c < RST seq +1 (the first difference)",
        " ≠ Linux 9.9: = EAGAIN",
    ]
    picture = ["".join(one.itertext()) for one in ET.fromstring(svg(made)).iter(f"{SVG}text")]
    assert "≠ Linux 9.9: c < RST seq +1 (the first difference)" in picture
    differing = [one["difference"] for one in film_in(html(made))["frames"] if one["difference"]]
    assert differing[0] == ["≠ Linux 9.9: c < RST seq +1", "model: nothing"]


def test_a_story_is_told_by_the_timing_by_which_both_are_alike() -> None:
    """Linux's timers fire at ticks, and its clock says which stamp a cookie has."""
    late = Late(1.0)
    other = other_of(TIMER, ModelSide(timing=late, begins=77.0))
    assert film(TIMER, STORIES[TIMER], "", LINUX, other).differences
    other = replace(other, began=77.0, timings=(EXACT, late, Late(5.0)))
    alike = film(TIMER, STORIES[TIMER], "", LINUX, other)
    assert alike.differences == ()
    # So late it does not fire before the wait is over.
    assert not any("timer" in note for one in alike.frames for note in one.notes)
    exact = film(TIMER, STORIES[TIMER], "", LINUX, replace(other, timings=(EXACT, Late(0.1))))
    assert any("timer" in note for one in exact.frames for note in one.notes)
    assert exact.differences


def test_what_is_alike_has_no_mark() -> None:
    """It is said with what it was compared, or why with nothing."""
    alike = film(TIMER, STORIES[TIMER], "", LINUX, other_of(TIMER))
    assert not any("≠" in one for one in lines(alike))
    assert "Linux 9.9 tells all of it alike." in lines(alike)[1]
    alone = film(TIMER, STORIES[TIMER], "", LINUX, why_not="it needs CAP_SYS_ADMIN")
    assert "Linux was not asked: it needs CAP_SYS_ADMIN." in lines(alone)[1]
    assert "Linux was not asked: it needs CAP_SYS_ADMIN." in svg(alone)


def film_in(page: str) -> dict[str, list[dict[str, list[str]]]]:
    """What the page's script reads."""
    found = re.search(r'<script id="film" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    made: dict[str, list[dict[str, list[str]]]] = json.loads(found[1])
    return made


def test_names_cannot_end_the_script_or_the_markup() -> None:
    """A story from a file names things as it likes."""
    story = "listen A\n syn </script><b>\n"
    made = film("<i>@FILM@", story, "a & b", LINUX)
    page = html(made)
    assert page.count("</script>") == 2
    assert "<i>" not in page
    assert film_in(page)["clients"] == ["</script><b>"]  # type: ignore[comparison-overlap]
    ET.fromstring(svg(made))


def test_the_page_needs_nothing_else() -> None:
    """No address of another file; light and dark by the system's choice."""
    page = html(shown(TIMER))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page


@pytest.mark.program("chromium")
@pytest.mark.slow
def test_a_browser_plays_the_page(tmp_path: Path) -> None:
    """At the step that its address names the chip is with its listener, and arrows are drawn."""
    page = tmp_path / "story.html"
    page.write_text(html(shown(TIMER)))
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", f"{page.as_uri()}#7",
        ],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    _, one, other = done.stdout.split('<div class="card listener')
    assert "A: gone" in one
    assert re.search(r'row half">.*?class="chip moving">c<.*?row queue', other)
    assert done.stdout.count('class="seg"') == done.stdout.count('class="mig"') == 1
    assert "the SYN-ACK timer of c fires" in done.stdout
    assert 'aria-current="step"' in done.stdout


def test_everything_has_words() -> None:
    """Each counter, timer, choice and difference."""
    assert set(words.COUNTERS) == set(COUNTED)
    for timer in Timer:
        assert timer in words.TIMERS
    for choice in Choice:
        event = Moved(1, State.ESTABLISHED, 2, 3, Occasion.STOP, choice)
        assert words.of_move(event, "c", "A", "B")
    for one in Difference:
        assert words.of_row(one.name)


@pytest.mark.parametrize("name", STORIES)
def test_every_story_says_what_it_is_about(name: str) -> None:
    """In two sentences at least."""
    assert len(re.findall(r"[.!?](?= |$)", prose(STORIES[name]))) >= 2
