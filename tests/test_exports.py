"""The public names: one list, each name findable, each from one home."""

from __future__ import annotations

import segue
from segue import errors


def test_the_list_is_the_whole_public_interface() -> None:
    """Adding or removing a public name is a decision, so it changes this list too."""
    assert segue.__all__ == sorted(segue.__all__)
    assert set(segue.__all__) == {
        "Address",
        "Connection",
        "Group",
        "IllegalInput",
        "InternalError",
        "KernelError",
        "Listener",
        "Map",
        "Migrating",
        "NotSupported",
        "PolicyError",
        "ProgramFault",
        "ScriptError",
        "SegueError",
        "Selection",
        "StartRefused",
        "UsageError",
        "Verdict",
        "VerifierError",
        "WireError",
        "draining",
        "i64",
        "policy",
        "u32",
        "u64",
    }


def test_every_public_name_is_found() -> None:
    """Each name in __all__ resolves, and dir() shows just these."""
    for name in segue.__all__:
        assert getattr(segue, name) is not None
    assert dir(segue) == segue.__all__


def test_every_error_is_public_and_in_the_tree() -> None:
    """An error a caller can meet can be imported from the top and caught as SegueError."""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, errors.SegueError)
            assert getattr(segue, name) is value
