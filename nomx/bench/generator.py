"""Saturate: requests at the speed of the driver, and only right answers counted, in the kernel, where they come in.

Live frames (BPF_PROG_RUN) leave the station without a socket or an skb, so one core offers more
than any application here answers; offered and answered rate are told side by side.

A call of BPF_PROG_RUN begins with a grace period of RCU, some 20 ms in which nothing is sent. So
one call lasts as long as the whole measurement, and the counts are read while it runs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nomx.bench.station import Course, Station
from nomx.linux.bpf import Map, Object

_TRIALS = 1 << 10, 1 << 16
"""Frames of two first calls, whose difference in time tells how many the whole measurement will take."""
_FASTEST_S = 5e-8
"""What a frame takes at least: a guard against a clock that was disturbed."""
_LONGER = 1.2
"""How much longer than the measurement the call is to be, lest it ends before."""

_SENT, _ANSWERED = 0, 1
"""`enum nomx_tally` of bpf/generate.bpf.c."""


@dataclass(frozen=True)
class Saturation:
    """What was offered and answered in *seconds*."""

    frame_bytes: int
    seconds: float
    sent: int
    answered: int

    @property
    def offered_pps(self) -> float:
        return self.sent / self.seconds

    @property
    def answered_pps(self) -> float:
        return self.answered / self.seconds


def saturate(
    station: Station,
    course: Course,
    *,
    seconds: float,
    frame_bytes: int = 64,
    cpu: int = 0,
    warm_up_s: float = 0.2,
    offered_pps: float | None = None,
) -> Saturation:
    """Send requests of *frame_bytes* (FCS not included) from *cpu* for *seconds*, after a warm-up that is not counted.

    *offered_pps* None: as fast as the core can.

    Raises: OSError: the kernel cannot run programs on live frames.
    """
    with station.program("nomx_sink", course, frame_bytes) as loaded:
        tallies = loaded.maps["nomx_tallies"]
        gap_ns = 0 if offered_pps is None else round(1e9 / offered_pps)
        loaded.maps["nomx_gap"].update(bytes(4), gap_ns.to_bytes(8, "little"))
        with _sending(station, loaded, course.request(frame_bytes), cpu, warm_up_s + seconds):
            time.sleep(warm_up_s)
            start, sent, answered = time.monotonic(), _read(tallies, _SENT), _read(tallies, _ANSWERED)
            time.sleep(seconds)
            elapsed = time.monotonic() - start
            return Saturation(frame_bytes, elapsed, _read(tallies, _SENT) - sent, _read(tallies, _ANSWERED) - answered)


@contextlib.contextmanager
def _sending(station: Station, loaded: Object, frame: bytes, cpu: int, seconds: float) -> Iterator[None]:
    """Send copies of *frame* from a thread on *cpu*, from now on for *seconds* at least."""
    blast = loaded.programs["nomx_blast"]
    enough, under_way = threading.Event(), threading.Event()
    failures: list[OSError] = []

    def send(frames: int) -> float:
        start = time.monotonic()
        blast.run_live(frame, station.ifindex, frames)
        return time.monotonic() - start

    def work() -> None:
        try:
            with pinned(cpu), station.links.inside():
                few, many = _TRIALS
                frame_s = max(send(many) - send(few), _FASTEST_S * many) / (many - few)
                under_way.set()
                while not enough.is_set():
                    send(int(seconds * _LONGER / frame_s))
        except OSError as failure:
            failures.append(failure)
        finally:
            under_way.set()

    thread = threading.Thread(target=work, name="generator", daemon=True)
    thread.start()
    under_way.wait()
    try:
        if not failures:
            yield
    finally:
        enough.set()
        thread.join()
        if failures:
            raise failures[0]


def _read(tallies: Map, tally: int) -> int:
    values = tallies.lookup_each_cpu(tally.to_bytes(4, "little"))
    return sum(int.from_bytes(value, "little") for value in values)


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Keep the calling thread on one CPU for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
