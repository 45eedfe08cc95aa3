"""TCP options in the order of a script, as bytes and back: also what no stack would write so."""

from __future__ import annotations

from segue.lab.packetdrill.script import Option

_KINDS = {"eol": 0, "nop": 1, "mss": 2, "wscale": 3, "sackOK": 4, "sack": 5, "TS": 8, "FO": 34}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_WIDTHS = {"mss": 2, "wscale": 1, "sack": 4, "TS": 4}
_EXPERIMENT, _FAST_OPEN_MAGIC = 254, bytes((0xF9, 0x89))  # RFC 7413, 9


def emit(options: tuple[Option, ...]) -> bytes:
    """As they stand, with an end and zeros up to a multiple of four."""
    made = b""
    for one in options:
        if one.name in {"nop", "eol"}:
            made += bytes((_KINDS[one.name],))
            continue
        data = b"".join(number.to_bytes(_WIDTHS[one.name], "big") for number in one.numbers)
        kind, data = _KINDS.get(one.name, _EXPERIMENT), data + one.data
        if one.name == "FOEXP":
            data = _FAST_OPEN_MAGIC + data
        made += bytes((kind, 2 + len(data))) + data
    return made + bytes(-len(made) % 4)


def parse(data: bytes) -> tuple[Option, ...]:
    """Those of a segment; what is not known is told by its kind."""
    found: list[Option] = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind in {0, 1}:
            found.append(Option(_NAMES[kind]))
            at += 1
            if kind == 0:
                break
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            found.append(Option(f"no option: {data[at:].hex()}"))
            break
        found.append(_one(kind, data[at + 2 : at + length]))
        at += length
    return tuple(found)


def _one(kind: int, data: bytes) -> Option:
    name = _NAMES.get(kind, f"kind {kind}")
    if kind == _EXPERIMENT and data[:2] == _FAST_OPEN_MAGIC:
        return Option("FOEXP", (), data[2:])
    width = _WIDTHS.get(name, 0)
    if width and len(data) % width == 0:
        words = range(0, len(data), width)
        return Option(name, tuple(int.from_bytes(data[at : at + width], "big") for at in words))
    return Option(name, (), data)


def tell(options: tuple[Option, ...]) -> str:
    """In packetdrill's words."""
    return "<" + ",".join(_told(one) for one in options) + ">"


def _told(one: Option) -> str:
    if one.name == "TS" and len(one.numbers) == 2:
        return f"TS val {one.numbers[0]} ecr {one.numbers[1]}"
    if one.name == "sack":
        pairs = zip(one.numbers[::2], one.numbers[1::2], strict=False)
        return "sack " + " ".join(f"{low}:{high}" for low, high in pairs)
    return " ".join((one.name, *map(str, one.numbers), *([one.data.hex()] if one.data else [])))
