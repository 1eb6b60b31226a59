"""Saturate: requests at the speed of the driver, and only right answers counted, in the kernel, where they come in.

Live frames (BPF_PROG_RUN) leave the station without a socket or an skb, so one core offers more
than any application here answers; offered and answered rate are told side by side.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nomx.bench.station import Course, Station
from nomx.linux.bpf import Map

_BURST = 1 << 13
"""Frames a BPF_PROG_RUN call: some ten milliseconds, so that the end comes when it should."""
_ZERO = bytes(4)


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
    station: Station, course: Course, *, seconds: float, frame_bytes: int = 64, cpu: int = 0, warm_up_s: float = 0.2
) -> Saturation:
    """Send requests of *frame_bytes* (FCS not included) from *cpu* for *seconds*, after a warm-up that is not counted.

    Raises: OSError: the kernel cannot run programs on live frames.
    """
    frame = course.request(frame_bytes)
    with station.program("nomx_sink", course, frame_bytes) as loaded, pinned(cpu), station.links.inside():
        blast, answers = loaded.programs["nomx_blast"], loaded.maps["nomx_answers"]

        def send_for(duration_s: float) -> tuple[int, float]:
            sent, start = 0, time.monotonic()
            while (elapsed := time.monotonic() - start) < duration_s:
                blast.run_live(frame, station.ifindex, _BURST)
                sent += _BURST
            return sent, elapsed

        send_for(warm_up_s)
        before = _count(answers)
        sent, elapsed = send_for(seconds)
        return Saturation(frame_bytes, elapsed, sent, _count(answers) - before)


def _count(answers: Map) -> int:
    return sum(int.from_bytes(value, "little") for value in answers.lookup_each_cpu(_ZERO))


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Keep the calling thread on one CPU for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
