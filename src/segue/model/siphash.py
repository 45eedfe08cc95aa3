"""SipHash-2-4, the hash of which Linux makes Fast Open cookies (Aumasson and Bernstein, 2012)."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def siphash(key: bytes, data: bytes) -> int:
    """A number of 64 bits, of a key of 16 bytes."""
    low, high = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    state = [start ^ word for start, word in zip(_START, (low, high, low, high), strict=True)]
    tail = len(data) % 8
    blocks = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - tail, 8)]
    last = int.from_bytes(data[len(data) - tail :], "little") | (len(data) & 0xFF) << 56
    for word in (*blocks, last):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _MASK


def _rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a, c = (a + b) & _MASK, (c + d) & _MASK
        b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
        a = _rotated(a, 32)
        c, a = (c + b) & _MASK, (a + d) & _MASK
        b, d = _rotated(b, 17) ^ c, _rotated(d, 21) ^ a
        c = _rotated(c, 32)
    state[:] = a, b, c, d
