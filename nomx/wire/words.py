"""Numbers in a frame, most significant byte first: what every accessor is made of.

Written byte by byte, for LLVM makes one load or store (and a byte swap) of each, at any alignment.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nomx.compiled import inlined

Frame: TypeAlias = NDArray[np.uint8]
"""A frame's bytes, from the first of the destination address on; often longer than the packet in it."""


@inlined
def load8(frame: Frame, at: int) -> int:
    """Read one byte."""
    return np.int64(frame[at])


@inlined
def load16(frame: Frame, at: int) -> int:
    """Read two bytes."""
    return np.int64(frame[at]) << 8 | np.int64(frame[at + 1])


@inlined
def load32(frame: Frame, at: int) -> int:
    """Read four bytes."""
    return load16(frame, at) << 16 | load16(frame, at + 2)


@inlined
def load48(frame: Frame, at: int) -> int:
    """Read six bytes: a MAC address."""
    return load32(frame, at) << 16 | load16(frame, at + 4)


@inlined
def store8(frame: Frame, at: int, value: int) -> None:
    """Write one byte, the lowest of *value*."""
    frame[at] = value & 0xFF


@inlined
def store16(frame: Frame, at: int, value: int) -> None:
    """Write two bytes, the lowest of *value*."""
    frame[at] = value >> 8 & 0xFF
    frame[at + 1] = value & 0xFF


@inlined
def store32(frame: Frame, at: int, value: int) -> None:
    """Write four bytes, the lowest of *value*."""
    frame[at] = value >> 24 & 0xFF
    frame[at + 1] = value >> 16 & 0xFF
    frame[at + 2] = value >> 8 & 0xFF
    frame[at + 3] = value & 0xFF


@inlined
def store48(frame: Frame, at: int, value: int) -> None:
    """Write six bytes, the lowest of *value*: a MAC address."""
    store16(frame, at, value >> 32)
    store32(frame, at + 2, value)
