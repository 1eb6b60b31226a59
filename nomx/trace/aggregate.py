"""Two snapshots to a sample, all of them to a report: differences, names and sums. No system call.

Between the tracer's snapshots and everything that shows, compares or explains them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nomx.linux import syscalls
from nomx.linux.abi_trace import CALL_COMPAT, CALL_XSK, LOG2_NS, CallRecord, ThreadRecord, XskRecord
from nomx.trace.report import (
    CallLine,
    CpuLine,
    Crossings,
    DeviceWork,
    Sample,
    ThreadLine,
    Times,
    Xsk,
)
from nomx.trace.snapshot import Snapshot

_MASK = (1 << 32) - 1


def sample(first: Snapshot, before: Snapshot, now: Snapshot) -> Sample:
    """Return what happened between two snapshots; *first* is where time begins."""
    return Sample(
        at_s=(before.at_ns - first.at_ns) / 1e9,
        seconds=(now.at_ns - before.at_ns) / 1e9,
        crossings=now.crossings - before.crossings,
        times=_times(now) - _times(before),
        packets=now.packets - before.packets,
    )


def _times(snapshot: Snapshot) -> Times:
    threads = snapshot.threads.values()
    return Times(
        user_ns=sum(thread.user_ns for thread in threads),
        call_ns=sum(thread.call_ns for thread in threads),
        stolen_ns=sum(thread.stolen_ns for thread in threads),
        device_ns=snapshot.work.poll_ns,
    )


def call_lines(now: Snapshot) -> tuple[CallLine, ...]:
    """Return the system calls by name, the most time on a CPU first; those in progress are counted, too."""
    waiting: dict[tuple[int, int], int] = {}
    for thread in now.threads.values():
        if thread.call_since_ns:
            key = thread.call_number, thread.call_kind
            waiting[key] = waiting.get(key, 0) + 1
    lines = []
    for number, kind in now.calls.keys() | waiting.keys():
        call = now.calls.get((number, kind), CallRecord())
        in_progress = waiting.get((number, kind), 0)
        lines.append(
            CallLine(
                name=syscalls.name(number, compat=bool(kind & CALL_COMPAT)),
                xsk=bool(kind & CALL_XSK),
                count=call.ended + in_progress,
                in_progress=in_progress,
                errors=call.errors,
                again=call.again,
                wall_ns=call.wall_ns,
                cpu_ns=call.cpu_ns,
                wall_log2_ns=call.wall_log2_ns,
            )
        )
    return tuple(sorted(lines, key=lambda line: (-line.cpu_ns, -line.count, line.name)))


def quantile_ns(log2_ns: Sequence[int], share: float) -> float | None:
    """Estimate the time below which *share* of the calls took, from a histogram: straight inside a bucket.

    None where there was no call.
    """
    total = sum(log2_ns)
    left = share * total
    for bucket, count in enumerate(log2_ns):
        if count and left <= count:
            return float(2**bucket) * (1 + left / count)
        left -= count
    return float(2**LOG2_NS) if total else None


def thread_lines(now: Snapshot) -> tuple[ThreadLine, ...]:
    """Return the threads, the most time on a CPU first."""
    lines = (_thread_line(tid, thread) for (tid, _), thread in now.threads.items())
    return tuple(sorted(lines, key=lambda line: (-line.times.on_cpu_ns, line.tid)))


def _thread_line(tid: int, thread: ThreadRecord) -> ThreadLine:
    return ThreadLine(
        tid=tid,
        tgid=thread.tgid,
        name=thread.comm.split(b"\0")[0].decode(errors="replace"),
        alive=not thread.ended_ns,
        cpu=thread.cpu,
        crossings=Crossings(
            syscalls=thread.syscalls,
            page_faults=thread.page_faults,
            voluntary_switches=thread.voluntary_switches,
            involuntary_switches=thread.involuntary_switches,
        ),
        times=Times(thread.user_ns, thread.call_ns, thread.stolen_ns),
        kernel_faults=thread.kernel_faults,
        major_faults=thread.major_faults - thread.major_before,
        migrations=thread.migrations,
    )


def cpu_lines(first: Snapshot, now: Snapshot, on_cpu: Iterable[int]) -> tuple[CpuLine, ...]:
    """Return what happened on each CPU on which anything did, or that is one of *on_cpu*."""
    threads = now.threads.values()
    own_ns: dict[int, int] = {}
    for thread in threads:
        own_ns[thread.cpu] = own_ns.get(thread.cpu, 0) + thread.user_ns + thread.call_ns
    shown = set(on_cpu)
    lines = []
    for number, (before, after) in enumerate(zip(first.cpus, now.cpus, strict=True)):
        line = CpuLine(
            cpu=number,
            crossings=after.crossings - before.crossings,
            device_ns=after.work.poll_ns - before.work.poll_ns,
            own_polls=after.work.own_polls - before.work.own_polls,
            own_time_ns=own_ns.get(number, 0),
        )
        if number in shown or line.crossings.total or line.own_time_ns:
            lines.append(line)
    return tuple(lines)


def device_work(now: Snapshot) -> DeviceWork:
    """Return what the target's devices did."""
    work = now.work
    return DeviceWork(
        frames=work.frames,
        full_polls=work.full_polls,
        own_polls=work.own_polls,
        redirects=work.redirects,
        redirect_errors=work.redirect_errors,
        exceptions=work.exceptions,
    )


def xsk_lines(before: Sequence[XskRecord], now: Sequence[XskRecord]) -> Iterator[Xsk]:
    """Yield the AF_XDP sockets; what the kernel counts is of the traced time where the socket was there before."""
    earlier = {xsk.inode: xsk for xsk in before}
    for xsk in now:
        was = earlier.get(xsk.inode)
        yield Xsk(
            inode=xsk.inode,
            tgid=xsk.tgid,
            fd=xsk.fd,
            ifindex=xsk.ifindex,
            queue=xsk.queue,
            zerocopy=bool(xsk.zerocopy),
            need_wakeup=bool(xsk.uses_need_wakeup),
            tx_budget=xsk.tx_budget,
            rx_entries=xsk.rx_entries,
            tx_entries=xsk.tx_entries,
            fill_available=xsk.fill_produced - xsk.fill_consumed & _MASK,
            rx_dropped=xsk.rx_dropped - (was.rx_dropped if was else 0),
            rx_ring_full=xsk.rx_ring_full - (was.rx_ring_full if was else 0),
            fill_ring_empty=xsk.fill_ring_empty - (was.fill_ring_empty if was else 0),
            tx_ring_empty=xsk.tx_ring_empty - (was.tx_ring_empty if was else 0),
            tx_invalid=xsk.tx_invalid - (was.tx_invalid if was else 0),
        )
