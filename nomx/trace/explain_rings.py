"""Why does an application on AF_XDP cross into the kernel? The rules of `nomx.trace.explain` for its rings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nomx.trace.report import CallLine, Report

Finding = tuple[str, str, str, float]
"""The fields of a Cause: cause, evidence, remedy, share of CPU time in per cent."""

_DEFAULT_BUDGET = 32
"""Frames of one transmit call in copy mode on kernels that have no option for it (TX_BATCH_SIZE)."""

_TRANSMIT = ("sendto", "sendmsg")
_RECEIVE = ("recvfrom", "recvmsg", "poll", "ppoll")


def _wakeups(report: Report, names: tuple[str, ...]) -> tuple[int, float, str]:
    """Return how many wakeups of these names there were, their share of CPU time, and how to tell them."""
    lines: list[CallLine] = [line for line in report.calls if line.xsk and line.name in names]
    on_cpu_ns = report.total.times.on_cpu_ns
    share = min(100.0, 100.0 * sum(line.cpu_ns for line in lines) / on_cpu_ns) if on_cpu_ns else 0.0
    return sum(line.count for line in lines), share, " + ".join(f"{line.count:,} {line.name}" for line in lines)


def _transmit_budget(report: Report) -> Iterator[Finding]:
    calls, share, told = _wakeups(report, _TRANSMIT)
    copying = [xsk for xsk in report.xsks if not xsk.zerocopy]
    sent = report.total.packets.tx
    if not calls or not copying or not sent:
        return
    budget = min(xsk.tx_budget or _DEFAULT_BUDGET for xsk in copying)
    if sent / calls > 0.75 * budget:
        yield (
            "in copy mode one transmit call moves only so many frames (the transmit budget)",
            f"{told} on AF_XDP for {sent:,} frames sent: {sent / calls:.1f} a call; the budget is {budget}",
            "raise it: XDP_MAX_TX_SKB_BUDGET up to the ring's size (Linux 6.17); fewer calls, hardly more throughput",
            share,
        )
    else:
        yield (
            "transmit calls carry few frames each: batches are small",
            f"{told} on AF_XDP for {sent:,} frames sent: {sent / calls:.1f} a call, where {budget} would go",
            "at low load that is latency well spent; else let frames gather (a longer batching delay)",
            share,
        )


def _no_need_wakeup(report: Report) -> Iterator[Finding]:
    without = [xsk for xsk in report.xsks if not xsk.need_wakeup]
    calls, share, told = _wakeups(report, (*_TRANSMIT, *_RECEIVE))
    if without and calls:
        yield (
            "AF_XDP sockets were bound without need_wakeup, so the application must call to be sure",
            f"{len(without)} of {len(report.xsks)} sockets; {told} on AF_XDP",
            "bind with XDP_USE_NEED_WAKEUP and call only when the ring's flag asks for it",
            share,
        )


def _runs_dry(report: Report) -> Iterator[Finding]:
    calls, share, told = _wakeups(report, _RECEIVE)
    received = report.total.packets.rx
    if calls and (not received or calls > 0.02 * received):
        yield (
            "the receive ring runs dry, and the application waits in the kernel",
            f"{told} on AF_XDP for {received:,} frames received",
            "at low load that saves a core; for latency spin on a core of its own (nomx run --cores 1)",
            share,
        )


def _copies(report: Report) -> Iterator[Finding]:
    copying = [xsk for xsk in report.xsks if not xsk.zerocopy]
    if copying:
        times = report.total.times
        on_cpu_ns = times.on_cpu_ns
        transmit = sum(line.cpu_ns for line in report.calls if line.xsk and line.name in _TRANSMIT)
        yield (
            "frames are copied: the driver has no zero-copy for these sockets, or it was not asked for",
            f"{len(copying)} of {len(report.xsks)} AF_XDP sockets are in copy mode",
            "a device whose driver has it (nomx doctor; docs/explanation/paths.md), and --require zerocopy to be told",
            min(100.0, 100.0 * transmit / on_cpu_ns) if on_cpu_ns else 0.0,
        )


def _overruns(report: Report) -> Iterator[Finding]:
    full = sum(xsk.rx_ring_full for xsk in report.xsks)
    empty = sum(xsk.fill_ring_empty for xsk in report.xsks)
    if full:
        yield (
            "frames were lost: the application was too slow, and its receive ring full",
            f"{full:,} frames found no room in a receive ring",
            "a larger ring rides out bursts; more queues or less work a packet helps at steady load",
            0.0,
        )
    if empty:
        yield (
            "the kernel had no frames to receive into: the fill ring was empty",
            f"{empty:,} times; {sum(xsk.fill_available for xsk in report.xsks):,} frames are in the fill rings now",
            "give frames back sooner, or have more of them (a larger UMEM)",
            0.0,
        )


RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _transmit_budget,
    _no_need_wakeup,
    _runs_dry,
    _copies,
    _overruns,
)
