"""JSON that somebody else may have written, read as RFC 8259 has it.

Python's own reader also takes NaN and Infinity, which no JSON has, and makes infinity of a number
that is too large, such as 1e999.  A comparison with NaN is false whatever it asks, so that such a
value passes a check that is not written for it.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any


def loads(text: bytes | str) -> Any:
    """The value.

    Raises ValueError for what is no JSON in UTF-8, for a number that is not finite, for an integer
    of thousands of digits, and for values that are nested too deep.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("values are nested too deep") from None


def _finite(text: str) -> float:
    found = float(text)
    if not isfinite(found):
        raise ValueError(f"{text:.40} is no number that JSON can have")
    return found


# One for all: json.loads makes a new one at each call with these.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
