"""The Internet checksum: summed over a frame, folded, and updated when a field changes.

A sum here is a plain int64 that has not been folded yet, so sums of parts can be added; it has room
for more than any packet has.
Source: RFC 1071 (computing), RFC 1624 (updating).
"""

from __future__ import annotations

import numpy as np

from nomx.compiled import inlined
from nomx.wire.words import Frame

VALID = 0xFFFF
"""What the sum over a correct packet folds to, its checksum included."""


@inlined
def sum_bytes(frame: Frame, start: int, length: int) -> int:
    """Sum *length* bytes as 16-bit words, an odd last byte padded with zero; the result is folded.

    Four bytes at a time and in little-endian order, because LLVM makes wide vector loads of that;
    one's complement sums do not mind (RFC 1071, 2(B)), and the two bytes of the result are swapped.
    """
    total = np.int64(0)
    for word in range(length >> 2):
        at = start + (word << 2)
        total += (
            np.int64(frame[at])
            | np.int64(frame[at + 1]) << 8
            | np.int64(frame[at + 2]) << 16
            | np.int64(frame[at + 3]) << 24
        )
    at = start + (length & ~3)
    if length & 2:
        total += np.int64(frame[at]) | np.int64(frame[at + 1]) << 8
        at += 2
    if length & 1:
        total += np.int64(frame[at])
    folded = fold(total)
    return (folded & 0xFF) << 8 | folded >> 8


@inlined
def fold(total: int) -> int:
    """Fold a sum to 16 bits, carries added back in."""
    total = (total & 0xFFFF_FFFF) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inlined
def finish(total: int) -> int:
    """Make of a sum the checksum to be stored."""
    return ~fold(total) & 0xFFFF


@inlined
def update(checksum: int, old: int, new: int) -> int:
    """Update a correct *checksum* for a change of 16-bit words, given as the sums of what was and what is there.

    Source: RFC 1624, equation 3, which never makes a wrong zero of a right one.
    """
    return finish((~checksum & 0xFFFF) + (~fold(old) & 0xFFFF) + new)
