"""`nomx lease`: who holds what, seen and ended through the daemon."""

from __future__ import annotations

import click

from nomx.api.lease import LeaseStatus
from nomx_cli.output import settings, show_json, show_table, size
from nomx_cli.session import connected


@click.group
def command() -> None:
    """See and end leases: what applications hold."""


@command.command("list")
def list_() -> None:
    """List the live leases."""
    with connected() as client:
        leases = client.leases()
    if settings().as_json:
        show_json({"leases": leases})
        return
    columns = ("LEASE", "NAME", "STATE", "PATH", "PID", "CPUS", "MEMORY", "DEVICE", "ADDRESS", "RX", "TX")
    show_table(columns, [_row(status) for status in leases], empty="no leases")


def _row(status: LeaseStatus) -> tuple[object, ...]:
    device = status.device
    return (
        status.record.lease,
        status.record.spec.name or "-",
        status.state,
        status.record.path,
        status.record.holder_pid,
        status.cpus + ("" if status.exclusive else " (shared)"),
        size(status.memory_used_bytes),
        device.unit if device else "-",
        device.ip4 if device else "-",
        status.traffic.rx_packets,
        status.traffic.tx_packets,
    )


@command.command
@click.argument("lease")
def show(lease: str) -> None:
    """Show all there is to know of LEASE, live or lately ended."""
    from nomx_cli.summary import status_lines

    with connected() as client:
        status = client.show(lease)
    if settings().as_json:
        show_json(status)
        return
    for line in status_lines(status):
        click.echo(line)


@command.command
@click.argument("lease")
@click.option("--kill", is_flag=True, help="Kill the lease's processes too; else they go on without its resources.")
def release(lease: str, kill: bool) -> None:
    """End LEASE now."""
    with connected() as client:
        client.release(lease, kill=kill)
    if settings().as_json:
        show_json({"released": lease})
    else:
        click.echo(f"released {lease}", err=True)
