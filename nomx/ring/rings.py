"""The four rings of an AF_XDP socket, as compiled code works them: reserve → submit, and peek → release.

    fill        application → kernel: frames to receive into     the application produces
    rx          kernel → application: packets received           the application consumes
    tx          application → kernel: packets to send            the application produces
    completion  kernel → application: frames that were sent      the application consumes

A `Ring` says where a ring is and never changes. A `Cursor` says how far we are in it, and lives in
registers: *position* is the next entry that we use, *limit* the first that is not ours. Both count
up without end; the ring shares its indices modulo 2**32, and its slots modulo its size.
Source: Documentation/networking/af_xdp.rst, "Rings"; include/uapi/linux/if_xdp.h, struct xdp_desc.
"""

from __future__ import annotations

from typing import NamedTuple

from nomx.compiled import inlined
from nomx.ring.atomics import load_acquire, load_i64, load_relaxed, load_u32, store_i64, store_release

_INDEX_MASK = 0xFFFF_FFFF
_NEED_WAKEUP = 1


class Ring(NamedTuple):
    """Where a ring is: addresses in this process, and its size in entries, a power of two."""

    producer: int
    consumer: int
    flags: int
    entries: int
    size: int


class Cursor(NamedTuple):
    """How far the application is in a ring: entries *position* to *limit* - 1 are its to use."""

    position: int
    limit: int


@inlined
def produce_from(ring: Ring) -> Cursor:
    """Begin to produce where the ring's producer index stands; nothing is reserved yet."""
    position = load_relaxed(ring.producer)
    return Cursor(position, position)


@inlined
def reserve(ring: Ring, cursor: Cursor, count: int) -> Cursor:
    """Ask for *count* entries to write; fewer may be there: `room` tells. The consumer's index is read only then.

    The acquire makes sure that the kernel has finished with an entry before we write it again.
    """
    if cursor.limit - cursor.position >= count:
        return cursor
    taken = (cursor.position - load_acquire(ring.consumer)) & _INDEX_MASK
    return Cursor(cursor.position, cursor.position + ring.size - taken)


@inlined
def submit(ring: Ring, cursor: Cursor, count: int) -> Cursor:
    """Give the first *count* reserved entries, written, to the kernel."""
    position = cursor.position + count
    store_release(ring.producer, position)
    return Cursor(position, cursor.limit)


@inlined
def consume_from(ring: Ring) -> Cursor:
    """Begin to consume where the ring's consumer index stands; nothing is peeked yet."""
    position = load_relaxed(ring.consumer)
    return Cursor(position, position)


@inlined
def peek(ring: Ring, cursor: Cursor) -> Cursor:
    """Look whether there are entries to read, when none are known; the producer's index is read only then."""
    return cursor if cursor.limit != cursor.position else look(ring, cursor)


@inlined
def look(ring: Ring, cursor: Cursor) -> Cursor:
    """Look how many entries there are to read by now, also when some are known."""
    ready = (load_acquire(ring.producer) - cursor.position) & _INDEX_MASK
    return Cursor(cursor.position, cursor.position + ready)


@inlined
def release(ring: Ring, cursor: Cursor, count: int) -> Cursor:
    """Give the first *count* peeked entries, read, back to the kernel."""
    position = cursor.position + count
    store_release(ring.consumer, position)
    return Cursor(position, cursor.limit)


@inlined
def room(cursor: Cursor) -> int:
    """Count the entries that are ours to use."""
    return cursor.limit - cursor.position


@inlined
def needs_wakeup(ring: Ring) -> bool:
    """Return whether the kernel sleeps until it is called (fill and tx rings, bound with USE_NEED_WAKEUP)."""
    return (load_relaxed(ring.flags) & _NEED_WAKEUP) != 0


@inlined
def put_frame(ring: Ring, position: int, address: int) -> None:
    """Write an entry of the fill ring: a frame's address in the UMEM."""
    store_i64(ring.entries + ((position & (ring.size - 1)) << 3), address)


@inlined
def get_frame(ring: Ring, position: int) -> int:
    """Read an entry of the completion ring: a frame's address in the UMEM, as it was submitted."""
    return load_i64(ring.entries + ((position & (ring.size - 1)) << 3))


@inlined
def put_packet(ring: Ring, position: int, address: int, length: int) -> None:
    """Write an entry of the tx ring: a packet's address in the UMEM and its length in bytes, options 0."""
    entry = ring.entries + ((position & (ring.size - 1)) << 4)
    store_i64(entry, address)
    store_i64(entry + 8, length)  # the length, and options 0 in the upper half: one store


@inlined
def get_packet(ring: Ring, position: int) -> tuple[int, int]:
    """Read an entry of the rx ring: a packet's address in the UMEM and its length in bytes."""
    entry = ring.entries + ((position & (ring.size - 1)) << 4)
    return load_i64(entry), load_u32(entry + 8)
