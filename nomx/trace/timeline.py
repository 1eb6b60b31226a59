"""Events to a timeline in the Chrome trace format, which Perfetto and chrome://tracing open.

One track a thread (system calls, faults, stretches on a CPU) and one a CPU (polls of the device,
softirqs). Source: "Trace Event Format" (Google), JSON object format; https://ui.perfetto.dev.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from nomx.linux import syscalls
from nomx.linux.abi_trace import CALL_COMPAT, CALL_XSK, EventKind, EventRecord
from nomx.trace.report import Report

_RECORD = struct.Struct("=8x3Q5I4x")
"""A ring buffer's header, then `struct nomx_event`."""

STRIDE = _RECORD.size
"""Bytes of one event in what the tracer's ring gives."""

_CPU_TRACKS = 0
_THREADS_ON_CPUS = -1
"""The processes under which the tracks of CPUs are shown; no real one has these pids."""

_SOFTIRQS = ("hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu")
"""Source: include/linux/interrupt.h."""


def unpack(chunks: Iterable[bytes]) -> Iterator[EventRecord]:
    """Yield the events of what the tracer's ring gave."""
    for chunk in chunks:
        for row in _RECORD.iter_unpack(chunk):
            yield EventRecord._make(row)


def write(file: TextIO, reports: Iterable[Report], events: Iterable[EventRecord], dropped: int) -> int:
    """Write the timeline of *events* as JSON; return how many entries it has. *dropped* events are told in it."""
    every = list(reports)
    processes = {line.tid: line.tgid for report in every for line in report.threads}
    told: dict[str, Any] = {"dropped_events": dropped + sum(report.lost.events for report in every[:1])}
    file.write('{"displayTimeUnit": "ns", "otherData": ' + json.dumps(told) + ', "traceEvents": [\n')
    count = 0
    for count, entry in enumerate(_entries(every, events, processes), 1):
        file.write((",\n" if count > 1 else "") + json.dumps(entry, separators=(",", ":")))
    file.write("\n]}\n")
    return count


def _entries(
    reports: list[Report], events: Iterable[EventRecord], processes: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    for pid, name in ((_CPU_TRACKS, "CPUs: softirqs and polls"), (_THREADS_ON_CPUS, "CPUs: threads")):
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
    for report in reports:
        for line in report.threads:
            yield {"ph": "M", "name": "process_name", "pid": line.tgid, "args": {"name": report.target}}
            thread = {"name": f"{line.name} {line.tid}"}
            yield {"ph": "M", "name": "thread_name", "pid": line.tgid, "tid": line.tid, "args": thread}
    for event in events:
        yield _entry(event, processes)


def _entry(event: EventRecord, processes: Mapping[int, int]) -> dict[str, Any]:
    on_thread = {"pid": processes.get(event.tid, event.tid), "tid": event.tid}
    on_cpu = {"pid": _CPU_TRACKS, "tid": event.cpu}
    when = {"ts": event.start_ns / 1e3, "dur": event.duration_ns / 1e3}
    match event.kind:
        case EventKind.CALL:
            name = syscalls.name(event.detail, compat=bool(event.call_kind & CALL_COMPAT))
            xsk = " (AF_XDP)" if event.call_kind & CALL_XSK else ""
            return {"ph": "X", "cat": "syscall", "name": name + xsk, **when, **on_thread}
        case EventKind.RUN:
            # On tracks of their own: on the thread's they would cut across calls that wait.
            track = {"pid": _THREADS_ON_CPUS, "tid": event.cpu}
            left = {"left": "to wait" if event.detail else "preempted"}
            return {"ph": "X", "cat": "run", "name": f"thread {event.tid}", **when, **track, "args": left}
        case EventKind.FAULT:
            name = "page fault in a call" if event.detail else "page fault"
            return {"ph": "i", "s": "t", "cat": "fault", "name": name, "ts": when["ts"], **on_thread}
        case EventKind.POLL:
            return {"ph": "X", "cat": "poll", "name": "napi poll", **when, **on_cpu, "args": {"frames": event.detail}}
        case _:
            vector = _SOFTIRQS[event.detail] if event.detail < len(_SOFTIRQS) else str(event.detail)
            args = {"in place of": event.tid}
            return {"ph": "X", "cat": "softirq", "name": f"softirq {vector}", **when, **on_cpu, "args": args}
