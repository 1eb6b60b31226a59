"""The maps of crossings.bpf.c at one moment, for one target: cumulative since the tracer began. Read by the tracer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nomx.linux import abi, abi_trace
from nomx.linux.abi_trace import CallRecord, CpuRecord, ThreadRecord, WorkRecord, XskRecord
from nomx.linux.bpf import Map
from nomx.trace.report import Crossings, Lost, Packets

_MAX_ENDED = 4096
"""Ended threads that are kept apart; more are added up, so that a program that forks for ever can be traced."""


@dataclass(frozen=True)
class CpuTotals:
    """What one CPU counted for one target."""

    crossings: Crossings
    socket_packets: Packets
    work: WorkRecord


@dataclass(frozen=True)
class Snapshot:
    """What was counted for one target until *at_ns* (CLOCK_MONOTONIC)."""

    at_ns: int
    cpus: tuple[CpuTotals, ...]
    threads: Mapping[tuple[int, int], ThreadRecord]
    """By (thread id, start time)."""
    calls: Mapping[tuple[int, int], CallRecord]
    """Calls that ended, by (number, kind)."""
    xsks: tuple[XskRecord, ...]
    packets: Packets
    lost: Lost

    @classmethod
    def beginning(cls, at_ns: int, cpus: int, xsks: tuple[XskRecord, ...]) -> Snapshot:
        """Return the snapshot of the moment when nothing had been counted yet."""
        nothing = CpuTotals(Crossings(), Packets(), WorkRecord())
        return cls(at_ns, (nothing,) * cpus, {}, {}, xsks, Packets(), Lost())

    @property
    def crossings(self) -> Crossings:
        return sum((cpu.crossings for cpu in self.cpus), Crossings())

    @property
    def socket_packets(self) -> Packets:
        return sum((cpu.socket_packets for cpu in self.cpus), Packets())

    @property
    def work(self) -> WorkRecord:
        return WorkRecord(*(sum(column) for column in zip(*(cpu.work for cpu in self.cpus), strict=True)))


def cpu_totals(groups: Map, work: Map, subject: int) -> tuple[CpuTotals, ...]:
    """Read what each CPU counted for *subject*."""
    key = subject.to_bytes(8, "little")
    counters = [abi.CrossingCounters.total([value]) for value in groups.lookup_each_cpu(key)]
    works = [WorkRecord.total([value]) for value in work.lookup_each_cpu(key)] or [WorkRecord()] * len(counters)
    return tuple(_cpu(counted, done) for counted, done in zip(counters, works, strict=True))


def _cpu(counted: abi.CrossingCounters, work: WorkRecord) -> CpuTotals:
    crossings = Crossings(
        syscalls=counted.syscalls,
        page_faults=counted.page_faults,
        voluntary_switches=counted.voluntary_switches,
        involuntary_switches=counted.involuntary_switches,
        interrupts=work.interrupts,
        napi_polls=counted.napi_polls,
    )
    at_sockets = Packets(
        rx=counted.socket_rx_packets,
        tx=counted.socket_tx_packets,
        rx_bytes=counted.socket_rx_bytes,
        tx_bytes=counted.socket_tx_bytes,
    )
    return CpuTotals(crossings, at_sockets, work)


def calls_of(calls: Map) -> dict[int, dict[tuple[int, int], CallRecord]]:
    """Read the calls that have ended, by subject, then by (number, kind)."""
    found: dict[int, dict[tuple[int, int], CallRecord]] = {}
    for key in list(calls.keys()):
        subject, number, kind = abi_trace.CALL_KEY.unpack(key)
        found.setdefault(subject, {})[number, kind] = CallRecord.total(calls.lookup_each_cpu(key))
    return found


@dataclass
class Threads:
    """The threads of all targets: live ones as they are now, ended ones as they were, taken out of the map."""

    table: Map
    _ended: dict[tuple[int, int], ThreadRecord] = field(default_factory=dict)

    def read(self, cpus: list[CpuRecord], now_ns: int) -> dict[tuple[int, int], ThreadRecord]:
        """Return every thread by (thread id, start time), the stretch that it is running now included."""
        live = {}
        for key in list(self.table.keys()):
            value = self.table.lookup(key)
            if value is None:  # its id went to another thread meanwhile
                continue
            thread = ThreadRecord.unpack(value)
            name = int.from_bytes(key, "little"), thread.start_ns
            if thread.ended_ns:
                self.table.delete(key)
                self._ended[name] = thread
            else:
                live[name] = _until(thread, cpus[thread.cpu], now_ns)
        self._fold()
        return {**self._ended, **live}

    def _fold(self) -> None:
        """Add up the threads that ended first, one sum a target, where they are too many to be kept apart."""
        apart = [name for name in self._ended if name[0]]
        for name in apart[: max(0, len(apart) - _MAX_ENDED)]:
            thread = self._ended.pop(name)
            others = 0, thread.subject
            self._ended[others] = _sum(self._ended.get(others), thread)


_COUNTS = (
    "user_ns",
    "call_ns",
    "stolen_ns",
    "syscalls",
    "page_faults",
    "kernel_faults",
    "major_faults",
    "major_before",
    "voluntary_switches",
    "involuntary_switches",
    "migrations",
)


def _sum(others: ThreadRecord | None, thread: ThreadRecord) -> ThreadRecord:
    if others is None:
        return thread._replace(tgid=0, comm=b"(ended threads)")
    return others._replace(**{name: getattr(others, name) + getattr(thread, name) for name in _COUNTS})


def _until(thread: ThreadRecord, cpu: CpuRecord, now_ns: int) -> ThreadRecord:
    """Add the stretch that a thread is running now, which the kernel adds only at its next event."""
    if not thread.running_since_ns:
        return thread
    stolen = max(0, cpu.stolen_ns - thread.stolen_mark_ns)
    stretch = max(0, now_ns - thread.running_since_ns - stolen)
    if thread.call_since_ns:
        return thread._replace(stolen_ns=thread.stolen_ns + stolen, call_ns=thread.call_ns + stretch)
    return thread._replace(stolen_ns=thread.stolen_ns + stolen, user_ns=thread.user_ns + stretch)


def lost_of(cpus: Iterable[CpuRecord], missed: int) -> Lost:
    """Add up what there was no room for."""
    every = list(cpus)
    return Lost(
        threads=sum(cpu.lost_threads for cpu in every),
        calls=sum(cpu.lost_calls for cpu in every),
        events=sum(cpu.lost_events for cpu in every),
        samples=sum(cpu.lost_samples for cpu in every),
        missed=missed,
    )
