"""The UMEM of one queue: memory in equal frames that the application and the kernel pass to and fro by address.

A frame is in exactly one place at any instant:

    free ──→ fill ──→ kernel ──→ rx ──→ application ──→ tx ──→ kernel ──→ completion ──→ free

`audit` proves it of a queue at rest. An address counts from the start of this queue's memory; a
frame's number is its address divided by the frame size, wherever in the frame the packet begins.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from nomx.linux import memory
from nomx.linux.xsk import PACKET_HEADROOM_BYTES
from nomx.ring.rings import Ring, get_frame, get_packet

Numbers = NDArray[np.int64]


class Umem:
    """Mapped memory of *frames* frames of *frame_bytes*, a power of two; `close` unmaps it."""

    def __init__(self, address: int, frames: int, frame_bytes: int, headroom_bytes: int = 0) -> None:
        self.address = address
        self.frames = frames
        self.frame_bytes = frame_bytes
        self.packet_offset = PACKET_HEADROOM_BYTES + headroom_bytes
        """Where the kernel puts a received packet in its frame."""
        raw = (ctypes.c_uint8 * self.length).from_address(address)
        whole: NDArray[np.uint8] = np.ctypeslib.as_array(raw).reshape(frames, frame_bytes)
        self.packets = whole[:, self.packet_offset :]
        """Each frame from where its packet begins: (frames, room) uint8, no copy."""

    @classmethod
    def map(cls, fd: int, offset: int, frames: int, frame_bytes: int, headroom_bytes: int = 0) -> Umem:
        """Map a slice of a memfd. Raises: OSError."""
        address = memory.map_shared(fd, frames * frame_bytes, offset, populate=True)
        return cls(address, frames, frame_bytes, headroom_bytes)

    @property
    def length(self) -> int:
        return self.frames * self.frame_bytes

    def close(self) -> None:
        memory.unmap(self.address, self.length)


class FramePool:
    """The free frames of one queue, by number; the one freed last is taken first, for it is in the cache."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._free = list(numbers)

    def __len__(self) -> int:
        return len(self._free)

    def __iter__(self) -> Iterator[int]:
        return iter(self._free)

    def take(self, count: int) -> Numbers:
        """Take up to *count* frames."""
        count = min(count, len(self._free))
        taken = self._free[len(self._free) - count :]
        del self._free[len(self._free) - count :]
        return np.array(taken, dtype=np.int64)

    def give(self, numbers: Numbers) -> None:
        """Give frames back."""
        self._free.extend(numbers.tolist())


def frames_between(ring: Ring, frame_bytes: int, *, packets: bool) -> list[int]:
    """List the frames in a ring's shared part, from its consumer index to its producer index, by number."""
    producer = ctypes.c_uint32.from_address(ring.producer).value
    consumer = ctypes.c_uint32.from_address(ring.consumer).value
    positions = range(consumer, consumer + (producer - consumer & 0xFFFF_FFFF))
    addresses = (get_packet(ring, at)[0] if packets else get_frame(ring, at) for at in positions)
    return [int(address) // frame_bytes for address in addresses]


def audit(frames: int, places: dict[str, Iterable[int]]) -> dict[str, int]:
    """Count the frames in each of *places*; those in none of them are the `kernel`'s.

    Raises: AssertionError: a frame is in two places, or is no frame of this memory.
    """
    seen = Counter(number for numbers in places.values() for number in numbers)
    twice = {
        number: [name for name, held in places.items() if number in list(held)] for number in seen if seen[number] > 1
    }
    assert not twice, f"frames in more than one place: {twice}"
    strangers = [number for number in seen if not 0 <= number < frames]
    assert not strangers, f"no frames of this memory: {strangers}"
    counts = {name: len(list(held)) for name, held in places.items()}
    return counts | {"kernel": frames - len(seen)}
