"""Round trips: one request in flight, sent and awaited by a compiled client that spins on an XSK of the station.

No Python runs between a request and its answer, so the client adds the same few hundred
nanoseconds to whatever it measures. Times are CLOCK_MONOTONIC, read without a system call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nomx.bench.generator import pinned
from nomx.bench.station import HEADERS_BYTES, IFNAME, MARKER, Course, Station
from nomx.compiled import compiled
from nomx.linux import memory, xsk
from nomx.linux.xsk import BindFlag
from nomx.ring import calls, rings
from nomx.ring.atomics import bytes_at
from nomx.ring.rings import Ring

FRAME_BYTES = 2048
FRAMES = 256
RING = 256
_SEQUENCE_AT = HEADERS_BYTES + len(MARKER)
_TIMEOUT_NS = 20_000_000
_TX_FRAMES = 64
_BIND_DEADLINE_S = 2.0


@dataclass(frozen=True)
class RoundTrips:
    """Quantiles of the round-trip time in microseconds, of *count* answered requests; *lost* were not, within 20 ms."""

    count: int
    lost: int
    p50_us: float
    p99_us: float
    max_us: float

    @classmethod
    def of(cls, times_ns: NDArray[np.int64], lost: int) -> RoundTrips:
        """Summarise the answered requests' times."""
        if times_ns.size == 0:
            return cls(0, lost, float("nan"), float("nan"), float("nan"))
        p50, p99 = np.percentile(times_ns, (50, 99)) / 1e3
        return cls(int(times_ns.size), lost, float(p50), float(p99), float(times_ns.max()) / 1e3)


def measure(station: Station, course: Course, *, count: int, cpu: int = 0, warm_up: int = 200) -> RoundTrips:
    """Measure *count* round trips of 64-byte requests from *cpu*, after *warm_up* that are not counted.

    Raises: OSError: the station's interface takes no XSK.
    """
    frame = np.frombuffer(course.request(64), np.uint8)
    times, timespec = np.zeros(count, np.int64), np.zeros(2, np.int64)
    with station.program("nomx_client", course, 64) as loaded, _client(station) as client:
        loaded.maps["nomx_clients"].update(bytes(4), client.fd.to_bytes(4, "little"))
        with pinned(cpu):
            _ping(client, frame, np.zeros(warm_up, np.int64), timespec.ctypes.data)
            lost = _ping(client, frame, times, timespec.ctypes.data)
    return RoundTrips.of(times[times > 0], int(lost))


class _Client(NamedTuple):
    """The client's XSK, as compiled code takes it."""

    rx: Ring
    tx: Ring
    fill: Ring
    completion: Ring
    fd: int
    umem: int


@contextlib.contextmanager
def _client(station: Station) -> Iterator[_Client]:
    """An XSK on the station's interface; its first _TX_FRAMES frames are for requests, the others to receive into."""
    length = FRAME_BYTES * FRAMES
    with contextlib.ExitStack() as cleanup:
        umem_fd = memory.memfd("nomx-station", length)
        umem = memory.map_shared(umem_fd, length, populate=True)
        os.close(umem_fd)
        cleanup.callback(memory.unmap, umem, length)
        with station.links.inside():
            fd = xsk.open_xsk()
        cleanup.callback(os.close, fd)
        xsk.register_umem(fd, umem, length, FRAME_BYTES)
        for kind in xsk.Ring:
            xsk.set_ring(fd, kind, RING)
        mapped = {kind: _mapped(fd, kind, cleanup) for kind in xsk.Ring}
        with station.links.inside():
            index = station.links.index(IFNAME)
            assert index is not None
            _bind(fd, index)
        yield _Client(
            mapped[xsk.Ring.RX], mapped[xsk.Ring.TX], mapped[xsk.Ring.FILL], mapped[xsk.Ring.COMPLETION], fd, umem
        )


def _bind(fd: int, index: int) -> None:
    """Bind, as soon as the kernel has let go of the socket bound before: that comes a little after its close."""
    deadline = time.monotonic() + _BIND_DEADLINE_S
    while True:
        try:
            return xsk.bind(fd, index, 0, BindFlag.COPY | BindFlag.USE_NEED_WAKEUP)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _mapped(fd: int, kind: xsk.Ring, cleanup: contextlib.ExitStack) -> Ring:
    at = xsk.mmap_offsets(fd)[kind]
    length = at.descriptors + RING * kind.descriptor_bytes
    base = memory.map_shared(fd, length, kind.page_offset)
    cleanup.callback(memory.unmap, base, length)
    return Ring(base + at.producer, base + at.consumer, base + at.flags, base + at.descriptors, RING)


@compiled
def _ping(client: _Client, request: NDArray[np.uint8], times: NDArray[np.int64], clock: int) -> int:
    """Send a request for each entry of *times*, one at a time, and set it to the answer's time in ns, or to 0: lost.

    *clock* is the address of 16 bytes to read the time through.
    """
    rx, tx, fill, completion = client.rx, client.tx, client.fill, client.completion
    received, sending = rings.consume_from(rx), rings.produce_from(tx)
    giving, done = rings.produce_from(fill), rings.consume_from(completion)
    if giving.position == 0:  # the socket's first use
        giving = rings.reserve(fill, giving, FRAMES - _TX_FRAMES)
        for i in range(FRAMES - _TX_FRAMES):
            rings.put_frame(fill, giving.position + i, (_TX_FRAMES + i) * FRAME_BYTES)
        giving = rings.submit(fill, giving, FRAMES - _TX_FRAMES)
    lost = 0
    for number in range(times.size):
        sequence = sending.position
        address = (sequence % _TX_FRAMES) * FRAME_BYTES
        frame = bytes_at(client.umem + address, FRAME_BYTES)
        for i in range(request.size):
            frame[i] = request[i]
        for i in range(8):
            frame[_SEQUENCE_AT + i] = (sequence >> (8 * i)) & 0xFF
        frame[40] = 0  # the checksum, which does not know the sequence number: none is right over IPv4
        frame[41] = 0
        sending = rings.reserve(tx, sending, 1)
        rings.put_packet(tx, sending.position, address, request.size)
        start = calls.monotonic_ns(clock)
        sending = rings.submit(tx, sending, 1)
        calls.wake_tx(client.fd)
        times[number] = 0
        while times[number] == 0:
            received = rings.peek(rx, received)
            waited = calls.monotonic_ns(clock) - start
            if rings.room(received) == 0:
                if waited > _TIMEOUT_NS:
                    lost += 1
                    break
                continue
            answer_at, _length = rings.get_packet(rx, received.position)
            answer = bytes_at(client.umem + answer_at, request.size)
            got = np.int64(0)
            for i in range(8):
                got = got | np.int64(answer[_SEQUENCE_AT + i]) << (8 * i)
            if got == sequence:
                times[number] = waited
            received = rings.release(rx, received, 1)
            giving = rings.reserve(fill, giving, 1)
            rings.put_frame(fill, giving.position, answer_at - answer_at % FRAME_BYTES)
            giving = rings.submit(fill, giving, 1)
        done = rings.peek(completion, done)
        done = rings.release(completion, done, rings.room(done))
    return lost
