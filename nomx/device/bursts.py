"""Batches between an AF_XDP queue and NumPy arrays: what `XskDevice` runs, one call for many packets."""

from __future__ import annotations

from nomx.compiled import compiled
from nomx.device.queue import XskQueue, push, rouse, unsent
from nomx.ring.rings import (
    consume_from,
    get_frame,
    get_packet,
    needs_wakeup,
    peek,
    produce_from,
    put_frame,
    put_packet,
    release,
    reserve,
    room,
    submit,
)
from nomx.ring.umem import Numbers


@compiled
def receive_burst(queue: XskQueue, index: Numbers, lengths: Numbers) -> int:
    """Take packets out of the rx ring, as many as there are and fit *index*; how many."""
    rx = peek(queue.rx, consume_from(queue.rx))
    count = min(room(rx), index.size)
    for entry in range(count):
        address, length = get_packet(queue.rx, rx.position + entry)
        index[entry] = address // queue.frame_bytes
        lengths[entry] = length
    release(queue.rx, rx, count)
    return count


@compiled
def send_burst(queue: XskQueue, index: Numbers, lengths: Numbers, packet_offset: int) -> tuple[int, int]:
    """Put packets into the tx ring, as many as fit, and push: (how many, 0 or the -errno of a device that has gone)."""
    tx = reserve(queue.tx, produce_from(queue.tx), index.size)
    count = min(room(tx), index.size)
    for entry in range(count):
        address = index[entry] * queue.frame_bytes + packet_offset
        put_packet(queue.tx, tx.position + entry, address, lengths[entry])
    tx = submit(queue.tx, tx, count)
    _, gone = push(queue, tx)
    return count, gone


@compiled
def collect_sent(queue: XskQueue, index: Numbers) -> int:
    """Take the frames that were sent out of the completion ring, as many as fit *index*; how many."""
    completion = peek(queue.completion, consume_from(queue.completion))
    count = min(room(completion), index.size)
    for entry in range(count):
        index[entry] = get_frame(queue.completion, completion.position + entry) // queue.frame_bytes
    release(queue.completion, completion, count)
    return count


@compiled
def refill(queue: XskQueue, index: Numbers) -> int:
    """Put frames into the fill ring, which has room for all there are; 0, or the -errno of a device that has gone."""
    fill = produce_from(queue.fill)
    for entry in range(index.size):
        put_frame(queue.fill, fill.position + entry, index[entry] * queue.frame_bytes)
    submit(queue.fill, fill, index.size)
    return rouse(queue) if needs_wakeup(queue.fill) else 0


@compiled
def frames_given(queue: XskQueue) -> int:
    """Return how many frames were ever put into the fill ring, modulo 2**32."""
    return produce_from(queue.fill).position


@compiled
def count_unsent(queue: XskQueue) -> int:
    """Count the packets that wait in the tx ring."""
    return unsent(queue.tx, produce_from(queue.tx))
