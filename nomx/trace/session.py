"""A trace from its start to its reports: waits, reads at each interval, and notices when a target ends.

The caller (the command line, an experiment) iterates over it and shows what it likes.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from nomx.errors import InvalidRequest
from nomx.linux.symbols import Symbols
from nomx.trace import aggregate, stacks, timeline
from nomx.trace.report import Device, Gap, Report, Sample
from nomx.trace.snapshot import Snapshot
from nomx.trace.target import Target
from nomx.trace.tracer import Options, Tracer
from nomx.types import CpuSet

_GLANCE_S = 0.1
"""How often events are drained, rings are looked at and ends are noticed, between two readings."""

_MAX_EVENT_BYTES = 128 << 20
"""Events kept for the timeline: over two million. What comes after is dropped, and the timeline says so."""


@dataclass
class Session:
    """Some targets being traced. `run` yields a sample of each at every interval; `reports` tells it all."""

    tracer: Tracer
    interval_s: float
    duration_s: float | None
    should_stop: Callable[[], bool] = lambda: False
    events: list[bytes] = field(default_factory=list)
    """What happened, as `nomx.trace.timeline.unpack` reads it."""
    dropped_event_bytes: int = 0
    _first: dict[int, Snapshot] = field(default_factory=dict)
    _last: dict[int, Snapshot] = field(default_factory=dict)
    _samples: dict[int, list[Sample]] = field(default_factory=dict)
    _affinity: dict[int, str] = field(default_factory=dict)
    _end: str = ""

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.tracer.targets

    @property
    def dropped_events(self) -> int:
        """Events that came after there was room for no more."""
        return self.dropped_event_bytes // timeline.STRIDE

    def start(self) -> None:
        """Begin to count."""
        self._first = self._last = self.tracer.start()
        self._samples = {subject: [] for subject in self._first}
        self._affinity = {target.subject: target.affinity() for target in self.targets}

    def run(self) -> Iterator[dict[str, Sample]]:
        """Yield what happened in each interval, by the target's label, until the time is over or no target is left."""
        began = time.monotonic()
        deadline = began + self.duration_s if self.duration_s is not None else float("inf")
        for number in itertools.count(1):
            self._wait(min(began + number * self.interval_s, deadline))
            if not self._end and time.monotonic() >= deadline:
                self._end = "the time was over"
            yield self._read()
            if self._end:
                return

    def _wait(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0 and not self._end:
            time.sleep(min(left, _GLANCE_S))
            self._drain()
            self.tracer.watch_rings()
            if self.should_stop():
                self._end = "it was stopped"
            elif all(self.tracer.has_ended(target) for target in self.targets):
                self._end = "every process of the target ended" if len(self.targets) == 1 else "all targets ended"

    def _drain(self) -> None:
        events = self.tracer.events()
        if sum(map(len, self.events)) + len(events) <= _MAX_EVENT_BYTES:
            self.events.append(events)
        else:
            self.dropped_event_bytes += len(events)

    def _read(self) -> dict[str, Sample]:
        now = self.tracer.read()
        self._drain()
        found = {}
        for target in self.targets:
            subject = target.subject
            found[target.label] = aggregate.sample(self._first[subject], self._last[subject], now[subject])
            self._samples[subject].append(found[target.label])
        self._last = now
        return found

    def reports(self) -> tuple[Report, ...]:
        """Tell what was found of each target."""
        symbols = Symbols.read() if self.tracer.options.clock_hz else None
        return tuple(self._report(target, symbols) for target in self.targets)

    def _report(self, target: Target, symbols: Symbols | None) -> Report:
        subject = target.subject
        first, last = self._first[subject], self._last[subject]
        devices = tuple(self.tracer.devices.get(subject, {}).values())
        sampled = (
            stacks.stack_lines(self.tracer.samples(), subject, target.label, symbols) if symbols is not None else ()
        )
        return Report(
            target=target.label,
            kind=target.kind,
            path=target.path,
            packets_at=self.tracer.packets_at(target),
            end=self._end,
            total=aggregate.sample(first, first, last),
            samples=tuple(self._samples[subject]),
            calls=aggregate.call_lines(last),
            threads=aggregate.thread_lines(last),
            cpus=aggregate.cpu_lines(first, last, CpuSet.parse(self._affinity[subject])),
            devices=devices,
            work=aggregate.device_work(last),
            xsks=tuple(aggregate.xsk_lines(first.xsks, last.xsks)),
            affinity=self._affinity[subject],
            functions=stacks.function_lines(sampled),
            stacks=sampled,
            clock_hz=self.tracer.options.clock_hz,
            lost=last.lost,
            gaps=(*self.tracer.gaps, *_gaps_of(target, devices)),
            kernel=f"{platform.system()} {platform.release()}",
        )


def _gaps_of(target: Target, devices: tuple[Device, ...]) -> Iterator[Gap]:
    """Yield what is not measured of this target."""
    if not devices:
        yield Gap("NAPI polls and interrupts of a device", target.no_devices or "the target has no device of its own")
    elif not any(device.interrupt_lines for device in devices):
        names = ", ".join(device.ifname for device in devices)
        yield Gap("interrupts of a device", f"{names}: no interrupt line that is seen from here (a veth has none)")


def open_session(
    targets: Sequence[Target], options: Options, interval_s: float = 1.0, duration_s: float | None = None
) -> Session:
    """Load the tracer for *targets*. Close `session.tracer` when done.

    Raises: InvalidRequest: no target, two of the same, or no time; what `Tracer` raises.
    """
    if not targets or len({target.subject for target in targets}) < len(targets):
        raise InvalidRequest(
            field="target", value=[each.label for each in targets], expected="different targets, at least one"
        )
    if interval_s < _GLANCE_S:
        raise InvalidRequest(field="interval", value=interval_s, expected=f"at least {_GLANCE_S} s")
    if duration_s is not None and duration_s <= 0:
        raise InvalidRequest(field="duration", value=duration_s, expected="more than 0 s")
    return Session(Tracer(targets, options), interval_s, duration_s)
