"""`nomx device`: the device units there are, and the network namespaces joined to them as hosts."""

from __future__ import annotations

import os

import click

from nomx.errors import InvalidRequest
from nomx_cli.output import settings, show_json, show_table
from nomx_cli.session import connected

NETNS_DIRECTORY = "/run/netns"


@click.group
def command() -> None:
    """See device units, and join network namespaces to the switch."""


@command.command("list")
def list_() -> None:
    """List the device units: soft VFs, the host's port, and namespaces that are plugged in."""
    with connected() as client:
        units = client.devices()
    if settings().as_json:
        show_json({"units": units})
        return
    columns = ("UNIT", "KIND", "INTERFACE", "MAC", "ADDRESS", "HOLDER", "RX", "TX", "DROPS")
    rows = [
        (
            unit.unit,
            unit.kind,
            unit.ifname,
            unit.mac,
            unit.ip4,
            unit.holder or "-",
            unit.rx_packets,
            unit.tx_packets,
            sum(unit.drops.values()),
        )
        for unit in units
    ]
    show_table(columns, rows, empty="no device units")


@command.command
@click.argument("netns")
@click.option("--ifname", default="nomx0", show_default=True, help="Name of the interface to make there.")
@click.option("--address", help="Its IPv4 address, within the daemon's prefix.  [default: the next free one]")
def plug(netns: str, ifname: str, address: str | None) -> None:
    """Join the network namespace NETNS to the switch, as a host of its own.

    NETNS is a name under /run/netns, a pid, or a path such as /proc/PID/ns/net; so a container
    reaches applications too.
    """
    descriptor = _open_netns(netns)
    try:
        with connected() as client:
            unit = client.plug(descriptor, ifname, address)
    finally:
        os.close(descriptor)
    if settings().as_json:
        show_json(unit)
    else:
        click.echo(f"{unit.unit}: {unit.ifname} has {unit.ip4}")


def _open_netns(netns: str) -> int:
    if netns.isdigit():
        path = f"/proc/{netns}/ns/net"
    else:
        path = netns if "/" in netns else os.path.join(NETNS_DIRECTORY, netns)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        expected = f"a name under {NETNS_DIRECTORY}, a pid or a path ({path}: {error.strerror})"
        raise InvalidRequest(field="netns", value=repr(netns), expected=expected) from error


@command.command
@click.argument("unit")
def unplug(unit: str) -> None:
    """Take UNIT, a namespace that was plugged in, off the switch again."""
    with connected() as client:
        client.unplug(unit)
    if settings().as_json:
        show_json({"unplugged": unit})
    else:
        click.echo(f"unplugged {unit}", err=True)
