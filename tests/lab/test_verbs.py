"""The language of stories: what is refused, with the line, before anything is done."""

from __future__ import annotations

import pytest

from segue.errors import UsageError
from segue.lab.replay import replay
from segue.lab.sides import ModelSide
from segue.lab.stories import STORIES, prose
from segue.lab.verbs import SHAPES, check


@pytest.mark.parametrize("name", STORIES)
def test_every_story_keeps_to_the_language(name: str) -> None:
    """Which so has all that is used."""
    check(STORIES[name])


def test_every_verb_is_in_a_story() -> None:
    """What nobody uses is not known to work."""
    used = {
        line.split()[0] for story in STORIES.values() for line in story.splitlines() if line.split()
    }
    assert used - {"#"} == set(SHAPES)


@pytest.mark.parametrize(
    ("story", "why"),
    [
        ("dance A", "line 1: no story has the verb 'dance'"),
        ("listen A\n\nsyn", "line 3: syn takes C [TEXT], not ''"),
        ("listen A 5 6", "line 1: listen takes L [NUMBER]"),
        ("listen A many", "line 1: listen: 'many' is not a number"),
        ("wait 61", "line 1: wait: '61' is not a number of seconds up to 60"),
        ("wait -1", "is not a number of seconds"),
        ("wait nan", "is not a number of seconds"),
        ("syn c @9999999", "line 1: syn: '@9999999' is not a word"),
        ("syn A\nlisten A", "line 2: 'A' is a client, and listen needs a listener"),
        (
            "listen A\naccept A x\naccept x y",
            "line 3: 'x' is a connection, and accept needs a list",
        ),
        ("syn c\nclose c", "line 2: 'c' is a client, and close is a call of the server"),
        ("program A nowhere", "line 1: no story has the policy 'nowhere'"),
        ("program A by_cookie never", "line 1: program: 'never' is not select"),
        ("sysctl tcp_mem 1", "line 1: sysctl: 'tcp_mem' is not a setting that the model has"),
        ("option A SOL_SOCKET 1", "line 1: option: 'SOL_SOCKET' is not an option"),
        ("offer c mss", "line 1: offer: 'mss' is not an option that a client can offer"),
        ("shutdown x both", "line 1: shutdown: 'both' is not read or write"),
    ],
)
def test_what_cannot_be_told_is_refused(story: str, why: str) -> None:
    """By its line."""
    with pytest.raises(UsageError) as refused:
        check(story)
    assert why in str(refused.value)


def test_lines_that_begin_with_a_hash_are_the_prose() -> None:
    """Wherever they stand; they are no steps."""
    story = "# One.\n#Two.\nlisten A\n  # Three.\nsyn c"
    check(story)
    assert prose(story) == "One. Two. Three."
    assert [line for line in replay(story, ModelSide()) if not line.startswith(" ")] == [
        "listen A", "syn c", "counted {}",
    ]  # fmt: skip
