"""Why are there crossings? Counts to causes and remedies, each with the figures that speak for it. Pure.

From one report to findings, the most expensive first. A rule says nothing unless its figures are
there; what was not measured is in the report's gaps, and no cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from nomx.trace.explain_rings import RULES as RING_RULES
from nomx.trace.report import CallLine, Report

_ONE_EACH = 0.5
"""Calls a packet from which on a program is said to call for (nearly) each packet."""

_NOTICEABLE_PCT = 5.0
_SHARED_SWITCHES_PER_S = 20.0
_FAULTS_PER_S = 50.0

_SWITCH_NS, _MIGRATION_NS, _FAULT_NS = 2_000, 3_000, 700
"""About what each costs on a server of today; they order the list, and are told to nobody."""

_RECEIVE = ("recvfrom", "recvmsg", "read", "readv")
_SEND = ("sendto", "sendmsg", "write", "writev")
_READINESS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6")
_MEMORY = ("mmap", "munmap", "brk", "madvise", "mremap")
_CLOCK = ("clock_gettime", "gettimeofday", "time")


class Cause(Struct, frozen=True):
    """One reason for crossings or for kernel time."""

    cause: str
    evidence: str
    """The figures that say so."""
    remedy: str
    share_pct: float
    """How much of the threads' CPU time it concerns, as far as that is known: the order of the list."""


def explain(report: Report) -> tuple[Cause, ...]:
    """Return the causes that the figures of *report* speak for, the most expensive first."""
    found = [Cause(*each) for rule in (*RING_RULES, *_RULES) for each in rule(report)]
    return tuple(sorted(found, key=lambda cause: -cause.share_pct))


Finding = tuple[str, str, str, float]
"""The fields of a Cause."""


_ENOUGH_PACKETS = 100
"""Fewer say nothing about what a packet costs."""


def _packets(report: Report) -> int:
    """Return the packets, 0 where they are too few to divide by."""
    count = report.total.packets.count
    return count if count >= _ENOUGH_PACKETS else 0


def _share_pct(report: Report, ns: float) -> float:
    on_cpu_ns = report.total.times.on_cpu_ns
    return min(100.0, 100.0 * ns / on_cpu_ns) if on_cpu_ns else 0.0


def _named(report: Report, names: tuple[str, ...]) -> list[CallLine]:
    """Return the lines of ordinary calls of these names: not those that wake AF_XDP."""
    return [line for line in report.calls if line.name in names and not line.xsk]


def _one_at_a_time(report: Report) -> Iterator[Finding]:
    packets = report.total.packets
    for what, names, count, batch in (
        ("receives", _RECEIVE, packets.rx, "recvmmsg"),
        ("sends", _SEND, packets.tx, "sendmmsg"),
    ):
        calls = _named(report, names)
        number = sum(line.count for line in calls)
        if count < _ENOUGH_PACKETS or number < _ONE_EACH * count:
            continue
        told = " + ".join(f"{line.count:,} {line.name}" for line in calls if line.count)
        yield (
            f"it {what} packets one at a time",
            f"{told} for {count:,} packets",
            f"move many a call ({batch}, io_uring), or take the path soft: there a batch costs one call or none",
            _share_pct(report, sum(line.cpu_ns for line in calls)),
        )


def _asks_when_ready(report: Report) -> Iterator[Finding]:
    packets = _packets(report)
    calls = _named(report, _READINESS)
    number = sum(line.count for line in calls)
    if packets and number >= _ONE_EACH * packets:
        yield (
            "it asks for readiness for each packet (an event loop)",
            f"{number:,} calls of {', '.join(line.name for line in calls)} for {packets:,} packets",
            "read until there is nothing left before asking again, or let the event loop run on nomx's sockets",
            _share_pct(report, sum(line.cpu_ns for line in calls)),
        )


def _asks_in_vain(report: Report) -> Iterator[Finding]:
    for line in report.calls:
        if line.again > 0.2 * line.count and line.again > report.total.seconds * 100:
            yield (
                f"it spins on {line.name}, which has nothing for it",
                f"{line.again:,} of {line.count:,} calls gave EAGAIN",
                "wait in a blocking call or epoll; where latency forbids that, spin on AF_XDP rings, without calls",
                _share_pct(report, line.cpu_ns * line.again / line.count),
            )


def _maps_memory(report: Report) -> Iterator[Finding]:
    packets = _packets(report)
    calls = _named(report, _MEMORY)
    number = sum(line.count for line in calls)
    if packets and number > 0.05 * packets:
        yield (
            "it takes memory from the kernel and gives it back while it works",
            f"{number:,} calls of {', '.join(line.name for line in calls)} for {packets:,} packets",
            "keep buffers and use them again; for glibc's malloc, raise M_TRIM_THRESHOLD and M_MMAP_THRESHOLD",
            _share_pct(report, sum(line.cpu_ns for line in calls)),
        )


def _reads_clock(report: Report) -> Iterator[Finding]:
    packets = _packets(report)
    calls = _named(report, _CLOCK)
    number = sum(line.count for line in calls)
    if packets and number > 0.1 * packets:
        yield (
            "the kernel is called to read the clock",
            f"{number:,} calls of {', '.join(line.name for line in calls)}",
            "use a clock source that the vDSO reads (/sys/devices/system/clocksource: tsc), and clocks it serves",
            _share_pct(report, sum(line.cpu_ns for line in calls)),
        )


def _hands_over(report: Report) -> Iterator[Finding]:
    packets = _packets(report)
    calls = _named(report, ("futex",))
    number = sum(line.count for line in calls)
    if packets and number > 0.1 * packets:
        yield (
            "threads hand packets to each other through locks",
            f"{number:,} futex calls for {packets:,} packets, over {len(report.threads)} threads",
            "let one thread do all of a packet's work (one queue a thread)",
            _share_pct(report, sum(line.cpu_ns for line in calls)),
        )


def _sleeps_for_each(report: Report) -> Iterator[Finding]:
    total = report.total
    switches = total.crossings.voluntary_switches
    packets = _packets(report)
    if packets and switches > 0.1 * packets:
        yield (
            "it goes to sleep and is woken for single packets",
            f"{switches:,} voluntary switches for {packets:,} packets",
            "at low load that saves a core; for latency spin on a core of its own, for throughput let packets gather",
            _share_pct(report, _SWITCH_NS * switches),
        )


def _core_is_shared(report: Report) -> Iterator[Finding]:
    total = report.total
    switches = total.crossings.involuntary_switches
    if total.rate(switches) > _SHARED_SWITCHES_PER_S:
        cores = f"CPU {report.affinity}" if report.affinity else "its CPUs"
        yield (
            "its cores are shared: other threads are let in",
            f"{switches:,} involuntary switches in {total.seconds:.1f} s; it may run on {cores}",
            "give it cores of its own: nomx run --cores N",
            _share_pct(report, _SWITCH_NS * switches),
        )
    moves = sum(line.migrations for line in report.threads)
    if total.rate(moves) > _SHARED_SWITCHES_PER_S:
        yield (
            "its threads move between cores, and their caches stay behind",
            f"{moves:,} migrations in {total.seconds:.1f} s",
            "pin its threads (taskset), or give it cores of its own: nomx run --cores N",
            _share_pct(report, _MIGRATION_NS * moves),
        )


def _faults(report: Report) -> Iterator[Finding]:
    total = report.total
    in_calls = sum(line.kernel_faults for line in report.threads)
    major = sum(line.major_faults for line in report.threads)
    faults = total.crossings.page_faults
    if total.rate(faults + in_calls) > _FAULTS_PER_S:
        yield (
            "memory is touched that has no page yet: buffers or frames were not populated",
            f"{faults:,} page faults, and {in_calls:,} inside system calls; {major:,} of all waited for a disk",
            "populate before work begins (MAP_POPULATE, mlockall, huge pages), and keep memory instead of freeing it",
            _share_pct(report, _FAULT_NS * (faults + in_calls)),
        )


def _interrupted(report: Report) -> Iterator[Finding]:
    total = report.total
    share = _share_pct(report, total.times.stolen_ns)
    if share < _NOTICEABLE_PCT:
        return
    polls, own = total.crossings.napi_polls, report.work.own_polls
    told = f"; {own:,} of {polls:,} own polls ran there" if polls else ""
    if report.path == "soft" and own <= 0.5 * polls:
        yield (
            "the embedded switch forwards what it sends in its threads' place: the soft path has no wire",
            f"{share:.0f} % of its threads' CPU time was stolen; {own:,} of {polls:,} own polls ran there",
            "a device of hardware (path vf) takes that off the CPU; here, larger batches make it cheaper",
            share,
        )
    elif own > 0.5 * polls > 0:
        names = ", ".join(device.ifname for device in report.devices)
        yield (
            "its device is polled on the cores on which it works",
            f"{own:,} of {polls:,} polls ran in its threads' place; {share:.0f} % of their CPU time was stolen",
            f"move its interrupts to another core, or poll in a thread: echo 1 > /sys/class/net/{names}/threaded",
            share,
        )
    else:
        yield (
            "interrupts and softirqs of others run on the cores on which it works",
            f"{share:.0f} % of its threads' CPU time was stolen{told}",
            "move other devices' interrupts (/proc/irq/*/smp_affinity) and senders to other cores",
            share,
        )


def _device_is_full(report: Report) -> Iterator[Finding]:
    polls = report.total.crossings.napi_polls
    if polls and report.work.full_polls > 0.5 * polls:
        yield (
            "the device has more frames than one poll takes: the receive side is saturated",
            f"{report.work.full_polls:,} of {polls:,} polls used up their budget",
            "more queues on more cores (--queues), or less work a frame in the softirq",
            _share_pct(report, report.total.times.device_ns),
        )


def _works_in_kernel(report: Report) -> Iterator[Finding]:
    share = _share_pct(report, report.total.times.call_ns)
    if share > 50 and report.calls:
        top = report.calls[0]
        yield (
            f"most of its time is the kernel's, and most of that in {top.name}{' (AF_XDP)' if top.xsk else ''}",
            f"{share:.0f} % of CPU time is in system calls, {_share_pct(report, top.cpu_ns):.0f} % in {top.name}",
            "see where it goes inside: --by function, or --flame FILE.svg",
            _share_pct(report, top.cpu_ns),
        )


_RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _one_at_a_time,
    _asks_when_ready,
    _asks_in_vain,
    _maps_memory,
    _reads_clock,
    _hands_over,
    _sleeps_for_each,
    _core_is_shared,
    _faults,
    _interrupted,
    _device_is_full,
    _works_in_kernel,
)
