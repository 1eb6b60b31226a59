"""`nomx demo`: the paths compared in one table; what `./dev demo` calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from nomx_cli.output import number, settings, show_json, show_table

if TYPE_CHECKING:
    from nomx_cli.demo import Row, Table

COLUMNS = ("PATH", "PACKETS/S", "ROUND TRIP P50 µs", "P99 µs", "SYSTEM CALLS/PACKET")


@click.command
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 10.0),
    default=3.0,
    show_default=True,
    help="How long to saturate each path.",
)
@click.option("--instance", default="nomxdemo", show_default=True, help="Name of the demo's own daemon.")
def command(seconds: float, instance: str) -> None:
    """Run one application on the best path and on the kernel's, and compare them in one table.

    The application echoes UDP datagrams. As root it runs as nobody, on a daemon that is started
    for the demo and leaves nothing behind, and one client drives both paths over the same number
    of links. Without root there is the kernel path alone, over loopback.
    """
    from nomx_cli.demo import demo

    start = time.monotonic()

    def say(what: str) -> None:
        click.echo(f"demo {time.monotonic() - start:5.1f} s  {what} ...", err=True)

    table = demo(instance, seconds, say)
    if settings().as_json:
        show_json(table)
    else:
        _show(table, seconds)


def _show(table: Table, seconds: float) -> None:
    rows = [_cells(row) for row in table.rows]
    if table.ratio:
        ratio = table.ratio
        rows.append(
            ("ratio", *(_times(ratio.get(key)) for key in ("packets_per_s", "p50_us", "p99_us", "syscalls_per_packet")))
        )
    click.echo()
    show_table(COLUMNS, rows)
    click.echo()
    for note in _notes(table, seconds):
        click.echo(note)


def _cells(row: Row) -> tuple[str, ...]:
    syscalls = "not counted" if row.syscalls_per_packet is None else number(row.syscalls_per_packet)
    return (row.mode, number(row.packets_per_s), number(row.p50_us), number(row.p99_us), syscalls)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}x"


def _notes(table: Table, seconds: float) -> list[str]:
    offered = " and ".join(f"{number(row.offered_per_s)}" for row in table.rows)
    notes = [
        table.reach,
        f"Packets/s: right UDP echoes under saturation for {seconds:g} s, 64-byte frames; offered: {offered}/s.",
        "Round trip: one request in flight. System calls: the application's, counted from outside by BPF.",
    ]
    notes += [f"Not counted on {row.path}: {row.uncounted}." for row in table.rows if row.uncounted]
    notes += [
        f"{row.lost_round_trips} round trips on {row.path} were lost." for row in table.rows if row.lost_round_trips
    ]
    return [*notes, table.missing] if table.missing else notes
