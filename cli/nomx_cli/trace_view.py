"""Traces for people: a line an interval, then what the time went into, and why; `nomx trace` prints through this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nomx.trace.aggregate import quantile_ns
from nomx.trace.compare import QUANTITIES, Column, Spread
from nomx.trace.report import KINDS, Gap, Report, Sample
from nomx_cli.output import number, show_table

if TYPE_CHECKING:
    from nomx.trace.explain import Cause
    from nomx.trace.probe import ProbeTable

_ROWS = 20
_BAR = 40
_SHORT = {
    "syscalls": "SYSCALLS",
    "page_faults": "FAULTS",
    "voluntary_switches": "WAITS",
    "involuntary_switches": "PREEMPTED",
    "interrupts": "IRQS",
    "napi_polls": "POLLS",
}
_LINE = ("TARGET", "TIME", "PACKETS/S", *(f"{_SHORT[kind]}/PKT" for kind in KINDS), "KERNEL NS", "USER NS", "CPU %")
_WIDTH = 12


def show_sample(label: str, sample: Sample, heading: bool) -> None:
    """Print one interval as a line; *heading* prints the headings before it."""
    if heading:
        click.secho("  ".join(word.rjust(_WIDTH) for word in _LINE), bold=True)
    cells = [label[:_WIDTH], f"{sample.at_s + sample.seconds:.1f} s", number(sample.rate(sample.packets.count))]
    cells += [_each(sample.per_packet(getattr(sample.crossings, kind))) for kind in KINDS]
    cells += [_each(sample.per_packet(sample.times.kernel_ns)), _each(sample.per_packet(sample.times.user_ns))]
    cells.append(f"{100 * sample.rate(sample.times.on_cpu_ns / 1e9):.0f}")
    click.echo("  ".join(cell.rjust(_WIDTH) for cell in cells))


def _each(value: float | None) -> str:
    """Write a figure per packet; a dash where there were no packets."""
    return "-" if value is None else "0" if value == 0 else number(value)


def show_report(report: Report, by: str) -> None:
    """Print what was found at the end."""
    click.echo()
    _show_totals(report)
    click.echo()
    match by:
        case "thread":
            _show_threads(report)
        case "function":
            _show_functions(report)
        case "cpu":
            _show_cpus(report)
        case _:
            _show_calls(report)
    _show_device(report)
    _show_sockets(report)
    _show_lost(report)


def _show_totals(report: Report) -> None:
    total, packets = report.total, report.total.packets
    click.echo(f"{report.kind} {report.target}: {total.seconds:.1f} s, until {report.end}")
    click.echo(f"packets: {packets.rx:,} received, {packets.tx:,} sent; counted at {report.packets_at}")
    rows: list[tuple[object, ...]] = []
    for kind in KINDS:
        count = getattr(total.crossings, kind)
        rows.append((kind.replace("_", " "), count, round(total.rate(count)), _each(total.per_packet(count)), ""))
    times = total.times
    for name, ns in (
        ("in user space", times.user_ns),
        ("in system calls", times.call_ns),
        ("stolen by interrupts", times.stolen_ns),
        ("polls of the device", times.device_ns),
    ):
        share = f"{100 * ns / times.on_cpu_ns:.1f} %" if times.on_cpu_ns else "-"
        rows.append((f"{name}, ns", ns, round(total.rate(ns)), _each(total.per_packet(ns)), share))
    show_table(("", "COUNT", "A SECOND", "A PACKET", "OF CPU TIME"), rows)


def _show_calls(report: Report) -> None:
    total = report.total
    rows = []
    for call in report.calls[:_ROWS]:
        name = f"{call.name} (AF_XDP)" if call.xsk else call.name
        ended = call.count - call.in_progress
        median, late = quantile_ns(call.wall_log2_ns, 0.5), quantile_ns(call.wall_log2_ns, 0.99)
        rows.append(
            (
                name,
                call.count,
                _each(total.per_packet(call.count)),
                call.errors,
                round(call.cpu_ns / ended) if ended else 0,
                round(median or 0),
                round(late or 0),
                f"{100 * call.cpu_ns / total.times.on_cpu_ns:.1f}" if total.times.on_cpu_ns else "-",
            )
        )
    columns = ("SYSTEM CALL", "COUNT", "A PACKET", "ERRORS", "CPU NS EACH", "~P50 NS", "~P99 NS", "CPU %")
    show_table(columns, rows, empty="no system calls")
    _show_rest(len(report.calls))


def _show_threads(report: Report) -> None:
    rows = [
        (
            line.tid,
            f"{line.name}{'' if line.alive else ' (ended)'}",
            line.crossings.syscalls,
            line.crossings.page_faults,
            line.crossings.voluntary_switches,
            line.crossings.involuntary_switches,
            line.migrations,
            line.times.user_ns // 1000,
            line.times.call_ns // 1000,
            line.times.stolen_ns // 1000,
        )
        for line in report.threads[:_ROWS]
    ]
    columns = (
        "THREAD",
        "NAME",
        "SYSCALLS",
        "FAULTS",
        "WAITS",
        "PREEMPTED",
        "MOVES",
        "USER µS",
        "CALLS µS",
        "STOLEN µS",
    )
    show_table(columns, rows, empty="no threads")
    _show_rest(len(report.threads))


def _show_functions(report: Report) -> None:
    samples = sum(stack.samples for stack in report.stacks) or 1
    rows = [
        (
            line.name,
            line.self_samples,
            f"{100 * line.self_samples / samples:.1f}",
            f"{100 * line.total_samples / samples:.1f}",
        )
        for line in report.functions[:_ROWS]
    ]
    show_table(("FUNCTION", "SAMPLES", "SELF %", "WITH CALLEES %"), rows, empty="no samples")
    _show_rest(len(report.functions))


def _show_cpus(report: Report) -> None:
    rows = [
        (
            line.cpu,
            *(getattr(line.crossings, kind) for kind in KINDS),
            line.own_polls,
            line.device_ns // 1000,
            line.own_time_ns // 1000,
        )
        for line in report.cpus
    ]
    columns = ("CPU", *(_SHORT[kind] for kind in KINDS), "POLLS IN ITS PLACE", "POLLS µS", "ITS THREADS µS")
    show_table(columns, rows, empty="nothing on any CPU")


def _show_device(report: Report) -> None:
    """Print what the polls of the target's devices did; nothing where it has none."""
    polls, work = report.total.crossings.napi_polls, report.work
    if not report.devices:
        return
    each = [number(total / polls) if polls else "-" for total in (work.frames, report.total.times.device_ns)]
    names = ", ".join(device.ifname for device in report.devices)
    click.echo()
    columns = ("DEVICE", "POLLS", "FRAMES", "FRAMES A POLL", "NS A POLL", "BUDGET USED UP", "IN ITS PLACE")
    show_table(columns, [(names, polls, work.frames, *each, work.full_polls, work.own_polls)])
    if work.redirects or work.redirect_errors or work.exceptions:
        click.echo(
            f"XDP: {work.redirects:,} redirected, {work.redirect_errors:,} redirects failed, "
            f"{work.exceptions:,} aborted or unknown"
        )


def _show_sockets(report: Report) -> None:
    """Print the AF_XDP sockets; nothing where there are none."""
    rows = [
        (
            xsk.fd,
            f"{xsk.ifindex}:{xsk.queue}" if xsk.ifindex else "not bound",
            "zero-copy" if xsk.zerocopy else "copy",
            "yes" if xsk.need_wakeup else "no",
            xsk.tx_budget or "-",
            xsk.rx_ring_full,
            xsk.rx_dropped,
            xsk.fill_ring_empty,
            xsk.tx_invalid,
        )
        for xsk in report.xsks[:_ROWS]
    ]
    if rows:
        click.echo()
        columns = (
            "AF_XDP FD",
            "IFINDEX:QUEUE",
            "MODE",
            "NEED_WAKEUP",
            "TX BUDGET",
            "RX RING FULL",
            "RX DROPPED",
            "FILL RING EMPTY",
            "TX INVALID",
        )
        show_table(columns, rows)
        _show_rest(len(report.xsks))


def _show_rest(count: int) -> None:
    if count > _ROWS:
        click.echo(f"... and {count - _ROWS} more (-j has all)")


def _show_lost(report: Report) -> None:
    """Say what was lost."""
    if report.lost.any:
        told = ", ".join(f"{getattr(report.lost, name):,} {name}" for name in report.lost.__struct_fields__)
        click.secho(f"\nno room, so details are too low: {told}", fg="yellow", err=True)


def show_gaps(reports: Sequence[Report]) -> None:
    """Say what was not measured, each reason once, with the targets that it is about if not all."""
    about: dict[Gap, list[str]] = {}
    for report in reports:
        for gap in report.gaps:
            about.setdefault(gap, []).append(report.target)
    if about:
        click.secho("\nnot measured here:", dim=True)
    for gap, targets in about.items():
        whose = "" if len(targets) == len(reports) else f"{', '.join(targets)}: "
        click.secho(f"  {whose}{gap.what}: {gap.reason}{f' ({gap.remedy})' if gap.remedy else ''}", dim=True)


def show_comparison(columns: Sequence[Column]) -> None:
    """Print columns side by side: medians over the intervals, with the extremes below."""
    rows = [
        (quantity.heading, *(_spread(column.values[quantity.key]) for column in columns)) for quantity in QUANTITIES
    ]
    rows.append(("packets counted at", *(column.packets_at for column in columns)))
    show_table(("", *(f"{column.label}{f' ({column.path})' if column.path else ''}" for column in columns)), rows)
    click.echo("medians over the intervals, [least to greatest]; per packet, a request and its answer are one")
    without = [column.label for column in columns if column.no_device]
    if without:
        click.secho(
            f"no device of {', '.join(without)} is known (--device): polls are missing from kernel time", fg="yellow"
        )


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{_each(spread.median)} [{_each(spread.low)} to {_each(spread.high)}]"


def show_causes(report: Report, causes: Sequence[Cause]) -> None:
    """Print causes, the most expensive first."""
    total = report.total
    click.echo(
        f"{report.kind} {report.target}: {_each(total.per_packet(total.crossings.total))} crossings a packet, "
        f"{_each(total.per_packet(total.times.kernel_ns))} ns of the kernel's and "
        f"{_each(total.per_packet(total.times.user_ns))} ns of its own; packets at {report.packets_at}"
    )
    if not causes:
        click.echo("nothing stands out")
    for place, cause in enumerate(causes, 1):
        click.secho(f"\n{place}. {cause.cause}", bold=True)
        click.echo(f"   seen: {cause.evidence}")
        click.echo(f"   do:   {cause.remedy}")
    _show_lost(report)
    show_gaps([report])


def show_probe(tables: Sequence[ProbeTable]) -> None:
    """Print the tables of a probe."""
    for table in tables:
        click.secho(f"\n{table.heading}", bold=True)
        if table.histogram:
            _show_histogram(table)
        else:
            show_table(("KEY", "COUNT"), table.rows, empty="nothing")


def _show_histogram(table: ProbeTable) -> None:
    most = max((count for _, count in table.rows), default=0)
    for bucket, count in table.rows:
        low = 2 ** (int(bucket) - 1) if int(bucket) else 0
        high = 2 ** int(bucket) - 1 if int(bucket) else 0
        click.echo(f"{low:>12,} to {high:<12,} {count:>10,} {'█' * round(_BAR * count / most)}")
    if not table.rows:
        click.echo("nothing")
