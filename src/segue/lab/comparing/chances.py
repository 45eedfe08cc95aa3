"""The chance of a comparison: the same for the same seed, on Linux and on the model."""

from __future__ import annotations

from random import Random

from segue.lab.link import Chance


def chances(seed: int) -> tuple[Chance, Chance]:
    """Two that have nothing to do with each other."""
    return Random(2 * seed).random, Random(2 * seed + 1).random  # noqa: S311 - no secret
